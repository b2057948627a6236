"""Deterministic pseudo-random weights and inputs for numerical parity tests.

Only numpy is required (torch is imported lazily, when a tensor has to be written).

Why not numpy's ``normal``: numpy promises the raw bit stream of its bit
generators, not the algorithm of ``Generator.normal``.  The rule below uses raw
64-bit words of Philox4x64-10 and integer arithmetic only, so that it gives the same
float32 values on every machine, numpy version and endianness.

THE RULE
  digest = sha256(f"{seed}:{canonical_key}" in utf-8)
  key    = first 16 bytes of digest, read as a little-endian 128-bit integer
  words  = numpy.random.Philox(key=key).random_raw(n)          (n uint64 words)
  s      = sum of the four 16-bit lanes of each word           (integer 0..262140)
  z      = (s - 131070) / sqrt((2**32 - 1) / 3)                (float64)
z has mean 0, variance 1 and is bounded by +-3.4641 (Irwin-Hall with four terms).
One word gives one element; elements are in C (row-major) order of the tensor.
The tensor is  loc + scale * z  computed in float64, then cast to its own dtype.

CANONICAL KEY
  "X.parametrizations.weight.original0" -> "X.weight_g"
  "X.parametrizations.weight.original1" -> "X.weight_v"
  anything else is used unchanged.  No prefix is added or removed: use the names of
  the manifests (the names of the published checkpoints).

LOC AND SCALE: see ``spec_for`` (depends on canonical key and shape alone).
"""

import hashlib
import math
import re

import numpy as np

_STD = math.sqrt((2.0**32 - 1.0) / 3.0)

# tensors that are constants of the architecture, never filled
_KEEP = re.compile(
    r"(^|\.)(data_mean|data_std|filter|mel_basis|hann_window|"
    r"position_ids|attn_mask|freqs|latent_rot|clip_rot)$"
)


def canonical_key(key):
    key = re.sub(r"\.parametrizations\.weight\.original0$", ".weight_g", key)
    return re.sub(r"\.parametrizations\.weight\.original1$", ".weight_v", key)


def unit_noise(key, n, seed):
    """n float64 values of zero mean and unit variance for (seed, key)."""
    digest = hashlib.sha256(f"{seed}:{key}".encode("utf-8")).digest()
    bitgen = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    words = np.ascontiguousarray(bitgen.random_raw(int(n)))
    lanes = words.view(np.uint16).reshape(-1, 4)
    total = lanes.sum(axis=1, dtype=np.int64)
    return (total - 131070).astype(np.float64) / _STD


def spec_for(key, shape):
    """(loc, scale) for a parameter or buffer, or None to leave it as it is."""
    key = canonical_key(key)
    shape = tuple(int(s) for s in shape)
    last = key.rsplit(".", 1)[-1]
    if _KEEP.search(key):
        return None
    # ---- by name
    if last in ("latent_std", "running_var"):
        return 1.0, 0.1
    if last in ("latent_mean", "running_mean"):
        return 0.0, 0.1
    if last == "logit_scale":
        return 2.0, 0.1
    if last == "learnable_gain":
        return 0.0, 0.1
    if last in ("alpha", "beta"):  # log-scale snake parameters
        return 0.0, 0.3
    if last == "weight_g":
        if ".resblocks." in "." + key:
            return 0.5, 0.05
        if key.endswith("conv_post.weight_g"):
            return 0.25, 0.025
        return 1.0, 0.1
    if last == "empty_sync_feat":
        return 0.0, 0.5
    if last in ("sup_text_feat", "sync_pos_emb"):
        return 0.0, 0.2
    if last in ("empty_clip_feat", "empty_string_feat"):
        return 0.0, 0.03
    if last in (
        "pos_embed",
        "temp_embed",
        "pos_emb",
        "cls_token",
        "class_embedding",
        "positional_embedding",
        "position_embedding",
        "distillation_token",
        "position_embeddings",
    ):
        return 0.0, 0.1
    if key in ("text_input_proj.0.weight", "clip_input_proj.0.weight"):
        return 0.0, 1.0  # their inputs have unit L2 norm
    # ---- by shape
    if len(shape) >= 2:
        fan_in = 1
        for s in shape[1:]:
            fan_in *= s
        gain = 1.0
        if key.startswith("final_layer.conv"):
            gain = 0.7
        return 0.0, gain / math.sqrt(fan_in)
    if key.endswith(("q_norm.weight", "k_norm.weight")):
        return 1.5, 0.15  # makes the attention peaked
    if last == "weight":  # gains of norm layers
        return 1.0, 0.1
    return 0.0, 0.05  # biases and other small vectors


def values_for(key, shape, seed):
    """float32 ndarray for a key, or None for tensors that are kept."""
    spec = spec_for(key, shape)
    if spec is None:
        return None
    n = 1
    for s in shape:
        n *= int(s)
    z = unit_noise(canonical_key(key), n, seed)
    z *= spec[1]
    z += spec[0]
    return z.astype(np.float32).reshape(tuple(int(s) for s in shape))


def fill_(target, seed):
    """Fill a torch module, a dict of torch tensors or a dict of ndarrays in place.

    Integer and boolean tensors and the constants of ``_KEEP`` are left alone.
    Returns the list of keys that were filled.
    """
    state = target.state_dict() if hasattr(target, "state_dict") else target
    done = []
    for key in state:
        tensor = state[key]
        if isinstance(tensor, np.ndarray):
            if tensor.dtype.kind != "f":
                continue
            vals = values_for(key, tensor.shape, seed)
            if vals is not None:
                tensor[...] = vals
                done.append(key)
            continue
        import torch

        if not torch.is_tensor(tensor) or not tensor.is_floating_point():
            continue
        vals = values_for(key, tensor.shape, seed)
        if vals is None:
            continue
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(vals).to(tensor.dtype))
        done.append(key)
    return done


def make_state_dict(manifest, seed, constants=None):
    """numpy state dict from a manifest's ``keys`` mapping; constants fills the kept ones."""
    out = {}
    for key, info in manifest.items():
        vals = values_for(key, info["shape"], seed) if info["dtype"].startswith("float") else None
        if vals is None and constants is not None and key in constants:
            vals = constants[key]
        if vals is not None:
            out[key] = vals
    return out


def make_input(name, shape, seed, kind="normal", scale=1.0, low=0, high=2):
    """Deterministic inputs.  ``kind``:

    normal   scale * z                                  float32
    unit     u in [0, 1)   (high 53 bits of each word)  float32, times scale
    signed   2*u - 1, in [-1, 1)                        float32, times scale
    int      low + word % (high - low)                  int64
    l2       normal, then each last-axis vector divided by its L2 norm, times scale
    wave     see make_wave (shape is (batch, samples))  float32
    """
    n = 1
    for s in shape:
        n *= int(s)
    key = f"input:{name}"
    if kind == "wave":
        return make_wave(name, shape, seed)
    if kind in ("unit", "signed", "int"):
        digest = hashlib.sha256(f"{seed}:{key}".encode("utf-8")).digest()
        words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(n)
        if kind == "int":
            return (low + (words % np.uint64(high - low)).astype(np.int64)).reshape(shape)
        u = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        if kind == "signed":
            u = 2.0 * u - 1.0
        return (u * scale).astype(np.float32).reshape(shape)
    z = unit_noise(key, n, seed).reshape(shape)
    if kind == "l2":
        z = z / np.sqrt((z * z).sum(axis=-1, keepdims=True))
    return (z * scale).astype(np.float32)


def make_wave(name, shape, seed):
    """Waveform test signal: five sines, gated noise, one click per quarter.

    All quantities below are in samples or cycles per sample, so it does not depend on a
    sampling rate.  Peak magnitude is scaled to 0.9 exactly (per batch row).
    """
    batch, length = int(shape[0]), int(shape[1])
    out = np.zeros((batch, length), dtype=np.float64)
    idx = np.arange(length, dtype=np.float64)
    for b in range(batch):
        par = make_input(f"{name}.par{b}", (5, 3), seed, kind="unit").astype(np.float64)
        for f, amp, ph in par:
            freq = 0.0005 * (0.48 / 0.0005) ** f  # log-uniform, cycles per sample
            out[b] += (0.05 + 0.3 * amp) * np.sin(2.0 * np.pi * (freq * idx + ph))
        noise = unit_noise(f"input:{name}.noise{b}", length, seed)
        gate = (idx // max(length // 8, 1)) % 2
        out[b] += 0.2 * noise * gate
        out[b, :: max(length // 4, 1)] += 1.0
        out[b] *= 0.9 / np.abs(out[b]).max()
    return out.astype(np.float32)


def sub_index(size, n):
    """Flat indices kept of a large output: n of them, evenly spread, with a stride that
    is made odd so that it does not lock onto one channel."""
    if size <= n:
        return np.arange(size, dtype=np.int64)
    stride = max(size // n, 1)
    if stride % 2 == 0:
        stride -= 1
    return np.arange(n, dtype=np.int64) * stride


def self_test():
    """Values that any correct copy of this file must give (compare with the README)."""
    z = unit_noise("a", 4, 0)
    w = values_for("x.weight", (2, 3), 7)
    t = make_input("i", (3,), 1, kind="int", low=0, high=1000)
    u = make_input("u", (3,), 1, kind="unit")
    return {
        "z": z.tolist(),
        "w": w.astype(np.float64).ravel().tolist(),
        "i": t.tolist(),
        "u": u.astype(np.float64).tolist(),
    }


if __name__ == "__main__":
    import json

    print(json.dumps(self_test(), indent=1))
