"""Encoder outputs of a video: the record, its .npz form, the cache, and how it is made."""

from .ahead import Pictures, ReadAhead
from .cache import FeatureCache, default_cache_dir, source_digest, source_name
from .encode import check_without_video, encode_video, encoder_id, features_without_video, open_frames
from .record import VideoFeatures, load_features, save_features

__all__ = [
    "FeatureCache",
    "Pictures",
    "ReadAhead",
    "VideoFeatures",
    "check_without_video",
    "default_cache_dir",
    "encode_video",
    "encoder_id",
    "features_without_video",
    "load_features",
    "open_frames",
    "save_features",
    "source_digest",
    "source_name",
]
