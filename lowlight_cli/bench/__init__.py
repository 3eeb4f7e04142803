"""Numbers that people can trust: data sets, classical baselines, paired intervals, tables (`lowlight bench`)."""
