"""Sources, pairs and crops; dark pictures made of bright ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowlight_cli.errors import InputError, UsageError
from lowlight_cli.exposure import TARGET, apply_gain, auto_gain
from lowlight_cli.training.checks import equal, look_at
from lowlight_cli.training.darken import codec_noise, physical, sensor
from lowlight_cli.training.data import Pair, alone, batch_of, blended, cut, read_source, seen
from lowlight_cli.training.sources import parse
from lowlight_cli.training.synthesis import Wish, synthesise


def picture(seed: int, height: int = 60, width: int = 80, level: float = 0.5) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = np.kron(random.uniform(0.2, 1, (height // 20, width // 20, 3)), np.ones((20, 20, 1)))
    return (smooth * level * 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir(), high.mkdir()
    for i in range(4):
        Image.fromarray(picture(i, level=0.1)).save(low / f"{i}.png")
        Image.fromarray(picture(i, level=0.9)).save(high / f"{i}.bmp")
    return low, high


def test_pairs_match_by_stem_whatever_the_suffix(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source = parse(f"pairs:{folders[0]},{folders[1]}")
    for _ in range(2):  # decoded, then from the cache
        pairs = read_source(source, tmp_path / "cache")
        assert [pair.stem for pair in pairs] == ["0", "1", "2", "3"]
        for i, pair in enumerate(pairs):
            assert np.array_equal(pair.low, picture(i, level=0.1)) and np.array_equal(pair.high, picture(i, level=0.9))
    assert len(list((tmp_path / "cache").glob("*.u8"))) == 1


def test_a_picture_without_partner_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "2.bmp").unlink()
    with pytest.raises(InputError, match="1 pictures without partner: 2"):
        read_source(parse(f"pairs:{folders[0]},{folders[1]}"), tmp_path / "cache")


def test_unequal_sizes_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    Image.fromarray(picture(0, 40, 40)).save(folders[0] / "3.png")
    with pytest.raises(InputError, match="1 pairs of unequal size: 3"):
        read_source(parse(f"pairs:{folders[0]},{folders[1]}"), tmp_path / "cache")


def test_a_damaged_picture_is_named_and_nothing_is_cached(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 files cannot be read as pictures: .*1\.png"):
        read_source(parse(f"pairs:{folders[0]},{folders[1]}"), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_all_damaged_pictures_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "1.png").write_bytes(b"no picture")
    (folders[0] / "2.png").write_bytes((folders[0] / "2.png").read_bytes()[:100])
    (folders[1] / "3.bmp").write_bytes(b"")
    with pytest.raises(InputError, match=r"3 files cannot be read as pictures: .*3\.bmp, .*1\.png, .*2\.png"):
        read_source(parse(f"pairs:{folders[0]},{folders[1]}"), tmp_path / "cache")


def of(stem: str, low: int, high: int, validation: bool = False) -> Pair:
    return Pair(stem, picture(low, level=0.1), picture(high), stem, validation, False)


def test_exposures_of_one_scene_are_no_duplicates() -> None:
    assert look_at([of("a", 1, 9), of("b", 2, 9), of("c", 3, 8, True)]) == ([], [])


def test_what_is_there_twice_is_named() -> None:
    same = Pair("d", picture(4), picture(4), "d", False, False)
    leaked, notes = look_at([of("a", 1, 7), of("b", 1, 8), of("c", 3, 9), same])
    assert not leaked
    assert notes[0] == "1 dark pictures are the same as their reference: d"
    assert notes[1] == "1 dark pictures are there more than once: b" and len(notes) == 2


def test_what_training_knows_is_no_validation() -> None:
    by_low, by_high, unknown = of("a", 1, 7, True), of("b", 2, 8, True), of("c", 3, 9, True)
    lit = Pair("f", None, picture(8), "f", False, False)
    leaked, notes = look_at([by_low, by_high, unknown, of("d", 1, 10), lit])
    assert leaked == [by_low, by_high]
    assert notes[-1].startswith("2 validation pictures are in the training data too") and notes[-1].endswith(": a, b")


def test_pictures_are_equal_where_every_pixel_is() -> None:
    one = picture(1)
    other = one.copy()
    other[17, 3, 1] += 1
    assert equal([one, other, one.copy(), one[:20]]) == [0, 1, 0, 3]


@pytest.mark.parametrize("text", ["lol", "nonsense:x", "lol:x@-1", "lol:x@0"])
def test_a_source_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="--data"):
        parse(text)


def test_a_weight_behind_the_path() -> None:
    assert parse("lol:/a@b/c@2.5").weight == 2.5
    assert parse("lol:/a@b/c").paths == (Path("/a@b/c"),)


def test_validation_is_by_scene(tmp_path: Path) -> None:
    lines = ["stem,folder,scene,low_mean,low_kept"]
    for folder in ("our485", "siblings"):
        for side in ("low", "high"):
            (tmp_path / folder / side).mkdir(parents=True)
        for i in range(60):
            lines.append(f"{i},{folder},{i},1,lossless")
            for side in ("low", "high"):
                Image.fromarray(picture(i, 20, 20)).save(tmp_path / folder / side / f"{i}.png")
    (tmp_path / "scenes.csv").write_text("\n".join(lines))
    pairs = read_source(parse(f"lol:{tmp_path}"), tmp_path / "cache")
    held = {pair.scene for pair in pairs if pair.validation}
    assert 0 < len(held) < 20
    assert not held & {pair.scene for pair in pairs if not pair.validation}


def test_what_was_made_of_one_photograph_is_one_scene(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.fromarray(picture(i)).save(tmp_path / "photos" / f"{i}.png")
    for made in synthesise(tmp_path / "photos", tmp_path / "made", Wish(pairs=True, per_picture=2)):
        assert not made.error
    with (tmp_path / "made" / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"low": "cut sh')
    pairs = read_source(parse(f"pairs:{tmp_path}/made/low,{tmp_path}/made/high"), tmp_path / "cache")
    held = {pair.scene for pair in pairs if pair.validation}
    assert len(pairs) == 60 and len({pair.scene for pair in pairs}) == 30
    assert held and not held & {pair.scene for pair in pairs if not pair.validation}


def test_crops_of_low_and_high_show_the_same_place() -> None:
    high = picture(1, 100, 120)
    pair = Pair("a", high // 4, high, "a", False, False)
    random = np.random.default_rng(0)
    for _ in range(10):
        low, bright, whole = cut(pair, 32, random)
        assert low.shape == bright.shape == (32, 32, 3) and whole is pair.low
        assert np.array_equal(low, bright // 4)
        batch = batch_of([seen((low, bright, whole), False, random)])
        assert np.abs(batch.low.numpy() * 255 - batch.high.numpy() * 255 // 4).max() < 1.01


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40)])
def test_windows_lie_anywhere_and_are_whole(height: int, width: int) -> None:
    """Each pixel tells its row and column."""
    rows, columns = np.mgrid[:height, :width]
    places, random = np.dstack([rows, columns, rows]).astype(np.uint8), np.random.default_rng(0)
    found = [alone(Pair("a", None, places, "a", False, False), 32, False, random) for _ in range(1000)]
    assert {piece.shape for piece in found} == {(32, 32, 3)}
    corners = np.array([piece[0, 0, :2] for piece in found])
    assert corners.min(0).tolist() == [0, 0] and corners.max(0).tolist() == [height - 32, width - 32]


def test_an_exposed_crop_takes_the_gain_of_the_whole() -> None:
    whole = picture(1, 100, 120, 0.1)
    whole[:50] //= 4
    batch = batch_of([seen((whole[:32, :32], whole[:32, :32], whole), True, np.random.default_rng(0))])
    floats = whole.astype(np.float32) / 255
    exposed = apply_gain(floats, auto_gain(floats))
    assert exposed.mean() == pytest.approx(TARGET, abs=0.02)
    assert batch.low.mean().item() == pytest.approx(float(exposed[:32, :32].mean()), abs=0.01)
    assert batch.thumbnail.shape == (1, 3, 64, 64)


def test_mixup_blends_reference_with_reference() -> None:
    crops = [seen((picture(i) // 8, picture(i), picture(i)), False, np.random.default_rng(0)) for i in (1, 2)]
    mixed = blended(*crops, 0.25)
    for name in ("low", "high", "thumbnail"):
        by_hand = 0.25 * getattr(crops[0], name) + 0.75 * getattr(crops[1], name)
        assert np.allclose(getattr(mixed, name), by_hand, atol=1e-6) and getattr(mixed, name).dtype == np.float32


def test_darkening_gives_the_same_pair_for_the_same_seed() -> None:
    first, second = (physical(picture(3, 100, 120), np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_darkening_keeps_the_scenes_light_and_is_darker() -> None:
    lows, highs = [], []
    for seed in range(60):
        low, high = physical(picture(seed, 100, 120, 0.8), np.random.default_rng(seed))
        assert low.shape == high.shape == (100, 120, 3) and low.dtype == high.dtype == np.uint8
        lows.append(low.mean() / 255)
        highs.append(high.mean() / 255)
    assert min(highs) > 0.30 and max(highs) < 0.57
    assert np.median(lows) < 0.2
    assert max(lows) > 0.25, "some pictures are hardly dark"


def test_noise_given_back_is_that_of_the_sensor() -> None:
    flat = np.full((200, 200, 3), 20, np.uint8)
    noisy = codec_noise(flat, np.random.default_rng(0)).astype(float) - 20
    assert abs(noisy.mean()) < 0.2
    deviations = noisy.std((0, 1))
    assert deviations[1] < deviations[2] < deviations[0] < 3.2
    across = (noisy[:, 1:] * noisy[:, :-1]).mean() / noisy.var()
    assert 0.1 < across < 0.4
    black = codec_noise(np.zeros((200, 200, 3), np.uint8), np.random.default_rng(0))
    assert black.std() < noisy.std()


def test_noise_of_the_sensor_correlates_over_channels_as_was_drawn() -> None:
    flat, seen = np.full((160, 160, 3), 0.1, np.float32), 0
    for seed in range(40):
        low, drawn = sensor(flat, np.random.default_rng(seed))
        if drawn["smeared"] and drawn["jpeg"] is None and drawn["shot"] > 2e-4:  # JPEG, and rounding, would blur it
            across = np.corrcoef(low.reshape(-1, 3).T)[np.triu_indices(3, 1)]
            assert across == pytest.approx(np.full(3, drawn["coloured"]), abs=0.05)
            seen += 1
    assert seen > 3
