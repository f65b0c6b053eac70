//! Properties that fuzz targets and corpus replays check.
