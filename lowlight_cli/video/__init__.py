"""Video clips: decode, enhance without flicker, encode and mux. Only this package imports PyAV."""
