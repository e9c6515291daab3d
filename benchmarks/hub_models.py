"""The models of KerasHub, in the small configurations of its own tests, with random weights.

`backbones` and `tasks` hold a builder for each; a name may end in a variant, such as
`ResNetBackbone, v2`. KerasHub is imported by the builders, since it takes seconds.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.zoo import randomize

Build = Callable[[], keras.Model]
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class HubModel:
    """How to build a model and what to call it with.

    Attributes:
        build: Function that builds the model.
        sizes: Sizes of the variable axes that it is tried with.
        draw: Function of a size that returns the inputs which cannot be drawn by their names.
    """

    build: Build
    sizes: tuple[int, ...] = (5, 3)
    draw: Callable[[int], Inputs] = field(default=lambda _size: {})


def hub_classes() -> dict[str, Any]:
    """Return each backbone and task of the installed KerasHub that can be built, by its name."""
    import keras_hub

    found = {name: getattr(keras_hub.models, name) for name in dir(keras_hub.models)}
    models = {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, keras.Model) and name == kind.__name__
    }
    return {name: kind for name, kind in models.items() if name not in _ABSTRACT}


def build_hub_model(name: str) -> keras.Model:
    """Build a model of `hub_models`, with random weights."""
    return randomize(hub_models()[name].build())


def draw_inputs(name: str, model: keras.Model, size: int, samples: int) -> Inputs:
    """Return inputs of a model: those that it needs, and others by their names.

    Args:
        name: Name of the model.
        model: The model.
        size: Size of each variable axis.
        samples: Number of rows.
    """
    random = np.random.default_rng(size)
    own = hub_models()[name].draw(size)
    drawn = {}
    for tensor in model.inputs:
        key = tensor.name.split(":")[0]
        shape = [samples, *(n or size for n in tensor.shape[1:])]
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if key in own:
            drawn[key] = np.resize(own[key], (samples, *own[key].shape)).astype(dtype)
        else:
            drawn[key] = _drawn(key, shape, dtype, size, random).astype(dtype)
    return drawn


def _drawn(
    key: str, shape: list[int], dtype: str, size: int, random: np.random.Generator
) -> np.ndarray:
    if "mask" in key and "position" not in key:  # rows of different lengths
        lengths = random.integers(max(shape[-1] - 2, 1), shape[-1], shape[:-1], endpoint=True)
        return np.arange(shape[-1]) < lengths[..., np.newaxis]
    if key == "mask_positions":
        return random.integers(0, size, shape)
    if "segment" in key or "label" in key or dtype == "bool":
        return random.integers(0, 2, shape)
    if dtype.startswith("int"):
        return random.integers(1, 10, shape)
    return random.uniform(0, 1, shape)


# Classes that others derive from.
_ABSTRACT = """
    Backbone CausalLM Classifier DepthEstimator FeaturePyramidBackbone ImageClassifier
    ImageObjectDetector ImageSegmenter ImageToImage Inpaint MaskedLM ObjectDetector Seq2SeqLM Task
    TextClassifier TextEmbedder TextToImage
""".split()  # noqa: SIM905

_TEXT = {
    "vocabulary_size": 10,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 2,
    "intermediate_dim": 4,
}
_SHORT_TEXT = {**_TEXT, "max_sequence_length": 5}
_GROUPED = {
    "vocabulary_size": 10,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 8,
}
_SLIDING = {**_GROUPED, "num_query_heads": 8, "num_key_value_heads": 4, "hidden_dim": 16}
_EXPERTS = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "moe_intermediate_dim": 16,
    "num_experts": 4,
    "top_k": 2,
}
_LINEAR_ATTENTION = {
    "vocabulary_size": 10,
    "num_layers": 4,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "partial_rotary_factor": 0.25,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_conv_kernel_dim": 4,
}
_ENCODER_DECODER = {
    "vocabulary_size": 100,
    **{
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in {
            "hidden_dim": 32,
            "intermediate_dim": 64,
            "num_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        }.items()
    },
    "dropout_rate": 0.1,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 1.0,
    "attention_bias": False,
    "hidden_activation": "gelu_approximate",
    "sliding_window": 16,
    "cross_attention_hidden_size": 32,
    "attn_logit_softcapping": 50.0,
    "rope_max_wavelength": 10000.0,
    "initializer_range": 0.04,
    "attention_dropout": 0.1,
}
_ASYMMETRIC = {
    "encoder_intermediate_dim": 96,
    "encoder_num_layers": 3,
    "encoder_layer_types": ["full_attention"] * 3,
}
_GEMMA = {
    "vocabulary_size": 20,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 1,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "head_dim": 4,
    "layer_norm_epsilon": 1e-6,
}
_GEMMA2 = {
    **_GEMMA,
    "num_key_value_heads": 2,
    "sliding_window_size": 5,
    "attention_logit_soft_cap": 50,
    "final_logit_soft_cap": 30,
    "query_head_dim_normalize": False,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "use_sliding_window_attention": True,
}
_GEMMA3 = {
    "vocabulary_size": 256,
    "image_size": 16,
    "num_layers": 6,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "head_dim": 4,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "use_sliding_window_attention": True,
}
_GEMMA4 = {
    "vocabulary_size": 256,
    "image_size": 16,
    "num_layers": 6,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "head_dim": 4,
    "sliding_window_size": 16,
}
_GEMMA3N = {
    "text_vocab_size": 50,
    "text_hidden_size": 8,
    "num_hidden_layers": 1,
    "pad_token_id": 0,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": [16],
    "hidden_activation": "gelu_approximate",
    "layer_types": ["full_attention"],
    "sliding_window": 4,
    "rope_theta": 10000.0,
    "max_position_embeddings": 16,
    "vocab_size_per_layer_input": 50,
    "hidden_size_per_layer_input": 2,
    "altup_num_inputs": 2,
    "laurel_rank": 1,
}
_GEMMA3N_AUDIO = {
    "hidden_size": 8,
    "input_feat_size": 32,
    "sscp_conv_channel_size": [4, 8],
    "sscp_conv_kernel_size": [(3, 3), (3, 3)],
    "sscp_conv_stride_size": [(2, 2), (2, 2)],
    "sscp_conv_group_norm_eps": 1e-5,
    "num_hidden_layers": 1,
    "rms_norm_eps": 1e-6,
    "gradient_clipping": 1.0,
    "residual_weight": 0.5,
    "num_attention_heads": 1,
    "attention_chunk_size": 4,
    "num_attention_context_right": 5,
    "num_attention_context_left": 5,
    "attention_logit_cap": 50.0,
    "conv_kernel_size": 5,
    "reduction_factor": 1,
}
_GEMMA4_AUDIO = {
    "input_feat_size": 8,
    "hidden_size": 8,
    "num_heads": 2,
    "num_layers": 1,
    "chunk_size": 4,
    "context_left": 5,
    "context_right": 0,
    "sscp_conv_channels": (4, 2),
    "output_proj_dims": None,
    "output_dim": 8,
}
_GEMMA4_VISION = {
    "image_size": 16,
    "patch_size": 4,
    "pool_size": 2,
    "num_layers": 2,
    "num_heads": 2,
    "head_dim": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "output_dim": 8,
}
_GEMMA3_VISION = {
    "image_size": 16,
    "patch_size": 4,
    "pool_size": 2,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "output_dim": 8,
}
_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 64, 64],
    "stackwise_num_blocks": [2, 2, 2],
    "stackwise_num_strides": [1, 2, 2],
    "block_type": "basic_block",
}
_BOTTLENECK = {**_RESNET, "block_type": "bottleneck_block"}
_HGNET = {
    "embedding_size": 32,
    "stem_channels": [3, 16, 32],
    "hidden_act": "relu",
    "use_learnable_affine_block": False,
    "image_shape": (64, 64, 3),
    "depths": [1, 1],
    "hidden_sizes": [64, 128],
    "stackwise_stage_filters": [[32, 16, 64, 1, 1, 3], [64, 32, 128, 1, 1, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, False],
    "out_features": ["stem", "stage1", "stage2"],
}
_HGNET_OF_DFINE = {
    **_HGNET,
    "embedding_size": 8,
    "stem_channels": [3, 8, 8],
    "use_learnable_affine_block": True,
    "image_shape": (None, None, 3),
    "hidden_sizes": [16, 32],
    "stackwise_stage_filters": [[8, 8, 16, 1, 1, 3], [16, 8, 32, 1, 1, 3]],
    "out_features": ["stage1", "stage2"],
}
_DFINE = {
    "decoder_in_channels": [16, 16],
    "encoder_hidden_dim": 16,
    "num_denoising": 10,
    "num_labels": 4,
    "hidden_dim": 16,
    "learn_initial_query": False,
    "num_queries": 10,
    "anchor_image_size": (32, 32),
    "feat_strides": [4, 8],
    "num_feature_levels": 2,
    "encoder_in_channels": [16, 32],
    "encode_proj_layers": [1],
    "num_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_encoder_layers": 1,
    "hidden_expansion": 0.5,
    "depth_multiplier": 0.5,
    "eval_idx": -1,
    "num_decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "decoder_n_points": [2, 2],
    "lqe_hidden_dim": 16,
    "num_lqe_layers": 1,
    "out_features": ["stage1", "stage2"],
    "image_shape": (None, None, 3),
    "seed": 0,
}
_EFFICIENTNET_V2 = {
    "stackwise_width_coefficients": [1.0] * 6,
    "stackwise_depth_coefficients": [1.0] * 6,
    "stackwise_kernel_sizes": [3] * 6,
    "stackwise_num_repeats": [2, 4, 4, 6, 9, 15],
    "stackwise_input_filters": [24, 24, 48, 64, 128, 160],
    "stackwise_output_filters": [24, 48, 64, 128, 160, 256],
    "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0, 0.25, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2, 2, 1, 2],
    "stackwise_block_types": ["fused"] * 3 + ["unfused"] * 3,
    "stackwise_force_input_filters": [0] * 6,
    "stackwise_nores_option": [False] * 6,
}
_EFFICIENTNET_V1 = {
    "stackwise_width_coefficients": [1.0] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    "stackwise_squeeze_and_excite_ratios": [0.25] * 7,
    "stackwise_block_types": ["v1"] * 7,
    "min_depth": None,
    "include_stem_padding": True,
    "use_depth_divisor_as_min_depth": True,
    "cap_round_filter_decrease": True,
    "stem_conv_padding": "valid",
    "batch_norm_momentum": 0.99,
}
_MOBILENET = {
    "stackwise_expansion": [[40, 56], [64, 144, 144], [72, 72], [144, 288, 288]],
    "stackwise_num_blocks": [2, 3, 2, 3],
    "stackwise_num_filters": [[16, 16], [24, 24, 24], [24, 24], [48, 48, 48]],
    "stackwise_kernel_size": [[3, 3], [5, 5, 5], [5, 5], [5, 5, 5], [1]],
    "stackwise_num_strides": [[2, 1], [2, 1, 1], [1, 1], [2, 1, 1], [1]],
    "stackwise_se_ratio": [[None, None], [0.25] * 3, [0.25] * 2, [0.25] * 3],
    "stackwise_activation": [
        ["relu"] * 2,
        ["hard_swish"] * 3,
        ["hard_swish"] * 2,
        ["hard_swish"] * 3,
    ],
    "stackwise_padding": [[1, 1], [2, 2, 2], [2, 2], [2, 2, 2], [1]],
    "output_num_filters": 1024,
    "image_shape": (224, 224, 3),
    "depthwise_filters": 8,
    "depthwise_stride": 2,
    "depthwise_residual": False,
    "squeeze_and_excite": 0.5,
    "last_layer_filter": 288,
}
_MOBILENET_V5 = {
    "stackwise_block_types": [["er"], ["uir", "uir"]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[24], [48, 48]],
    "stackwise_strides": [[2], [2, 1]],
    "stackwise_act_layers": [["relu"], ["relu", "relu"]],
    "stackwise_exp_ratios": [[4.0], [6.0, 6.0]],
    "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
    "stackwise_dw_kernel_sizes": [[0], [5, 5]],
    "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
    "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
    "stackwise_exp_kernel_sizes": [[3], [0, 0]],
    "stackwise_pw_kernel_sizes": [[1], [0, 0]],
    "stackwise_num_heads": [[0], [0, 0]],
    "stackwise_key_dims": [[0], [0, 0]],
    "stackwise_value_dims": [[0], [0, 0]],
    "stackwise_kv_strides": [[0], [0, 0]],
    "stackwise_use_cpe": [[False], [False, False]],
    "image_shape": (32, 32, 3),
    "stem_size": 16,
    "use_msfa": False,
}
_DINOV2 = {
    "patch_size": 14,
    "num_layers": 2,
    "hidden_dim": 32,
    "num_heads": 2,
    "intermediate_dim": 128,
    "image_shape": (224, 224, 3),
}
_MIT = {
    "layerwise_depths": [2, 2],
    "image_shape": (32, 32, 3),
    "hidden_dims": [4, 8],
    "num_layers": 2,
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [8, 4],
    "max_drop_path_rate": 0.1,
    "layerwise_patch_sizes": [7, 3],
    "layerwise_strides": [4, 2],
}
_VIDEO = {
    "image_shape": (28, 28, 3),
    "num_frames": 4,
    "patch_size": 4,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "num_heads": 2,
    "num_spatial_layers": 1,
    "num_temporal_layers": 1,
    "num_auxiliary_layers": 1,
}
_BLIP2_VISION = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "use_patch_bias": True,
    "use_class_token": True,
    "use_mha_bias": True,
    "use_mlp_bias": True,
    "dropout_rate": 0.0,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
}
_BLIP2_QFORMER = {
    "num_query_tokens": 4,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "vision_dim": 16,
    "cross_attention_frequency": 2,
    "dropout": 0.0,
    "layer_norm_epsilon": 1e-5,
}
_BLIP2_OPT = {
    "vocabulary_size": 14,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "num_query_tokens": 4,
    "qformer_hidden_dim": 8,
    "max_sequence_length": 10,
    "dropout": 0.0,
}
_BLIP2_T5 = {
    "vocabulary_size": 14,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "key_value_dim": 8,
    "num_query_tokens": 4,
    "qformer_hidden_dim": 8,
    "dropout": 0.0,
}
_MOONSHINE = {
    "vocabulary_size": 10,
    "hidden_dim": 32,
    "filter_dim": 32,
    "encoder_num_layers": 2,
    "decoder_num_layers": 2,
    "encoder_num_heads": 4,
    "decoder_num_heads": 4,
    "intermediate_dim": 128,
}
_FLUX = {
    "input_channels": 256,
    "hidden_size": 1024,
    "mlp_ratio": 2.0,
    "num_heads": 8,
    "depth": 4,
    "depth_single_blocks": 8,
    "axes_dim": [16, 56, 56],
    "theta": 10_000,
    "use_bias": True,
    "guidance_embed": True,
    "image_shape": (32, 256),
    "text_shape": (32, 256),
    "image_ids_shape": (32, 3),
    "text_ids_shape": (32, 3),
    "y_shape": (256,),
}

# Models whose configuration holds plain values only.
_PLAIN: dict[str, dict[str, Any]] = {
    "AlbertBackbone": {
        **_SHORT_TEXT,
        "num_groups": 1,
        "num_inner_repetitions": 1,
        "embedding_dim": 16,
    },
    "BartBackbone": _SHORT_TEXT,
    "BertBackbone": _SHORT_TEXT,
    "BloomBackbone": {**_TEXT, "num_heads": 4, "hidden_dim": 8, "intermediate_dim": 32},
    "CLIPTextEncoder": {**_TEXT, "embedding_dim": 64, "hidden_dim": 64, "intermediate_dim": 128},
    "CLIPVisionEncoder": {
        "patch_size": 16,
        "hidden_dim": 64,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_dim": 128,
    },
    "CSPNetBackbone": {
        "stem_filters": 32,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_strides": 2,
        "stackwise_depth": [1, 2, 8],
        "stackwise_num_filters": [16, 24, 48],
        "down_growth": True,
        "bottle_ratio": (0.5, 1.0),
        "block_ratio": (1.0, 0.5),
        "expand_ratio": (2.0, 1.0),
        "block_type": "dark_block",
        "stage_type": "csp",
        "stem_padding": "same",
    },
    "DINOV2Backbone": _DINOV2,
    "DINOV2Backbone, registers": {**_DINOV2, "num_register_tokens": 4, "use_swiglu_ffn": True},
    "DINOV3Backbone": {
        **_DINOV2,
        "patch_size": 16,
        "hidden_dim": 16,
        "intermediate_dim": 64,
        "image_shape": (64, 64, 3),
    },
    "DebertaV3Backbone": _SHORT_TEXT,
    "DeiTBackbone": {
        "image_shape": (28, 28, 3),
        "patch_size": 4,
        "num_layers": 3,
        "hidden_dim": 48,
        "num_heads": 6,
        "intermediate_dim": 192,
        "use_mha_bias": True,
    },
    "DenseNetBackbone": {
        "stackwise_num_repeats": [2, 4, 6, 4],
        "compression_ratio": 0.5,
        "growth_rate": 2,
        "image_shape": (32, 32, 3),
    },
    "DistilBertBackbone": _SHORT_TEXT,
    "ESMBackbone": {**_TEXT, "num_heads": 1},
    "EdRecBackbone": {
        "vocab_size": 10,
        "num_layers_enc": 2,
        "num_layers_dec": 2,
        "num_heads": 2,
        "hidden_dim": 4,
        "intermediate_dim": 8,
        "dropout": 0.0,
    },
    "EfficientNetBackbone": _EFFICIENTNET_V2,
    "EfficientNetBackbone, v1": _EFFICIENTNET_V1,
    "ElectraBackbone": {
        "vocab_size": 10,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 2,
        "embedding_dim": 2,
        "intermediate_dim": 4,
        "max_sequence_length": 5,
    },
    "FNetBackbone": {key: value for key, value in _SHORT_TEXT.items() if key != "num_heads"},
    "FalconBackbone": {
        "vocabulary_size": 10,
        "num_layers": 2,
        "num_attention_heads": 8,
        "hidden_dim": 16,
        "num_kv_heads": 1,
        "intermediate_dim": 32,
    },
    "FluxBackbone": _FLUX,
    "GPT2Backbone": _SHORT_TEXT,
    "GPTNeoXBackbone": _SHORT_TEXT,
    "Gemma3Backbone": _GEMMA3,
    "Gemma3Backbone, bidirectional": {**_GEMMA3, "use_bidirectional_attention": True},
    "Gemma3VisionEncoder": _GEMMA3_VISION,
    "Gemma3nBackbone": _GEMMA3N,
    "Gemma4Backbone": _GEMMA4,
    "Gemma4Backbone, experts": {
        **_GEMMA4,
        "enable_moe_block": True,
        "num_experts": 4,
        "expert_intermediate_dim": 8,
        "num_experts_per_token": 2,
    },
    "Gemma4VisionEncoder": _GEMMA4_VISION,
    "GemmaBackbone": _GEMMA,
    "GemmaBackbone, Gemma 2": _GEMMA2,
    "GptOssBackbone": {**_SLIDING, "num_experts": 2, "top_k": 2, "sliding_window": 2},
    "HGNetV2Backbone": _HGNET,
    "HGNetV2Backbone, light": {
        **_HGNET,
        "apply_downsample": [True, True],
        "use_lightweight_conv_block": [True, True],
    },
    "Llama3Backbone": {**_GROUPED, "vocabulary_size": 11, "intermediate_dim": 16},
    "LlamaBackbone": _GROUPED,
    "LlamaBackbone, tied": {**_GROUPED, "tie_word_embeddings": True},
    "MetaCLIP2TextEncoder": {
        **_TEXT,
        "embedding_dim": 64,
        "hidden_dim": 64,
        "intermediate_dim": 128,
    },
    "MetaCLIP2VisionEncoder": {
        "patch_size": 16,
        "hidden_dim": 64,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_dim": 128,
    },
    "MiTBackbone": _MIT,
    "MistralBackbone": {**_SLIDING, "sliding_window": 2},
    "MixtralBackbone": {**_SLIDING, "num_experts": 2, "top_k": 2, "sliding_window": 2},
    "MobileNetBackbone": _MOBILENET,
    "MobileNetV5Backbone": _MOBILENET_V5,
    "MoonshineBackbone": _MOONSHINE,
    "OPTBackbone": _SHORT_TEXT,
    "PaliGemmaBackbone": {
        "vocabulary_size": 256,
        "image_size": 16,
        "num_layers": 2,
        "num_query_heads": 2,
        "num_key_value_heads": 1,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "head_dim": 4,
        "vit_patch_size": 4,
        "vit_num_layers": 2,
        "vit_num_heads": 2,
        "vit_hidden_dim": 8,
        "vit_intermediate_dim": 16,
    },
    "Phi3Backbone": _GROUPED,
    "Phi3Backbone, su": {
        **_GROUPED,
        "num_query_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_dim": 12,
        "max_sequence_length": 10,
        "pretraining_sequence_length": 5,
        "rope_scaling_type": "su",
        "rope_scaling_short_factor": [1.2, 1.4],
        "rope_scaling_long_factor": [0.8, 0.6],
    },
    "Qwen3Backbone": {**_GROUPED, "head_dim": 2},
    "Qwen3MoeBackbone": {**_EXPERTS, "head_dim": 2, "norm_top_k_prob": True},
    "Qwen3_5Backbone": {**_LINEAR_ATTENTION, "head_dim": 8, "intermediate_dim": 32},
    "Qwen3_5MoeBackbone": {
        **_LINEAR_ATTENTION,
        "head_dim": 8,
        "moe_intermediate_dim": 8,
        "shared_expert_intermediate_size": 8,
        "num_experts": 4,
        "top_k": 2,
    },
    "QwenBackbone": {**_GROUPED, "intermediate_dim": 16, "tie_word_embeddings": False},
    "QwenMoeBackbone": {**_EXPERTS, "shared_expert_intermediate_dim": 32, "norm_top_k_prob": True},
    "RWKV7Backbone": {
        "vocabulary_size": 10,
        "hidden_size": 16,
        "num_layers": 2,
        "head_size": 4,
        "intermediate_dim": 32,
        "gate_lora": 32,
        "mv_lora": 16,
        "aaa_lora": 16,
        "decay_lora": 16,
    },
    "ResNetBackbone": _RESNET,
    "ResNetBackbone, bottleneck": _BOTTLENECK,
    "ResNetBackbone, v2": {**_BOTTLENECK, "use_pre_activation": True},
    "ResNetBackbone, vd": {
        **_RESNET,
        "block_type": "bottleneck_block_vd",
        "input_conv_filters": [32, 32, 64],
        "input_conv_kernel_sizes": [3, 3, 3],
    },
    "RobertaBackbone": _SHORT_TEXT,
    "RoformerV2Backbone": {**_TEXT, "num_heads": 1, "head_size": 2},
    "SigLIPTextEncoder": {**_TEXT, "embedding_dim": 64, "hidden_dim": 64, "intermediate_dim": 128},
    "SigLIPVisionEncoder": {
        "patch_size": 16,
        "hidden_dim": 64,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_dim": 128,
    },
    "SmolLM3Backbone": {
        "vocabulary_size": 100,
        "hidden_dim": 64,
        "intermediate_dim": 128,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_layer_enabled_list": [True, True],
        "layer_types": ["attention", "attention"],
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
    },
    "SwinTransformerBackbone": {
        "image_shape": (32, 32, 3),
        "embed_dim": 32,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "window_size": 4,
    },
    "T5Backbone": _TEXT,
    "T5Gemma2Backbone": {**_ENCODER_DECODER, "use_query_key_norm": True},
    "T5Gemma2Backbone, asymmetric": {
        **_ENCODER_DECODER,
        **_ASYMMETRIC,
        "use_query_key_norm": True,
    },
    "T5GemmaBackbone": _ENCODER_DECODER,
    "T5GemmaBackbone, asymmetric": {
        **_ENCODER_DECODER,
        **_ASYMMETRIC,
        "encoder_hidden_dim": 48,
        "encoder_num_attention_heads": 6,
        "encoder_num_key_value_heads": 3,
        "cross_attention_hidden_size": 48,
    },
    "VGGBackbone": {
        "stackwise_num_repeats": [2, 3, 3],
        "stackwise_num_filters": [8, 64, 64],
        "image_shape": (16, 16, 3),
    },
    "ViTBackbone": {
        "image_shape": (28, 28, 3),
        "patch_size": 4,
        "num_layers": 3,
        "hidden_dim": 48,
        "num_heads": 6,
        "mlp_dim": 192,
        "use_mha_bias": True,
    },
    "ViTDetBackbone": {
        "image_shape": (16, 16, 3),
        "patch_size": 2,
        "hidden_size": 4,
        "num_layers": 2,
        "global_attention_layer_indices": [2, 5, 8, 11],
        "intermediate_dim": 16,
        "num_heads": 2,
        "num_output_channels": 2,
        "window_size": 2,
    },
    "VideoPrismBackbone": {**_VIDEO, "vocabulary_size": 0, "num_text_layers": 0},
    "VideoPrismBackbone, text": {
        **_VIDEO,
        "vocabulary_size": 100,
        "num_text_layers": 1,
        "attention_logit_soft_cap": 50.0,
    },
    "WhisperBackbone": {
        **_TEXT,
        "max_encoder_sequence_length": 6,
        "max_decoder_sequence_length": 6,
    },
    "XLMRobertaBackbone": _SHORT_TEXT,
    "XLNetBackbone": _TEXT,
    "XceptionBackbone": {
        "stackwise_conv_filters": [[32, 64], [128, 128], [256, 256]],
        "stackwise_pooling": [False, True, False],
    },
    "BLIP2VisionEncoder": _BLIP2_VISION,
    "BLIP2QFormer": _BLIP2_QFORMER,
    "BLIP2CustomOPT": _BLIP2_OPT,
    "BLIP2FlanT5": _BLIP2_T5,
}

# Tasks on the backbone of the same family: its name, and the other arguments.
_CLASSES = {"num_classes": 2}
_TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{family}{task}": (f"{family}Backbone", arguments)
        for task, arguments, families in (
            ("MaskedLM", {}, "Albert Bert DebertaV3 DistilBert FNet Roberta RoformerV2 XLMRoberta"),
            (
                "TextClassifier",
                _CLASSES,
                "Albert Bert DebertaV3 DistilBert FNet Roberta RoformerV2 XLMRoberta",
            ),
            ("TextEmbedder", {}, "Bert Gemma3 Qwen3 XLMRoberta"),
            (
                "CausalLM",
                {"preprocessor": None},
                "Bloom Falcon GPT2 GPTNeoX Gemma Gemma3 Gemma3n Gemma4 GptOss Llama Llama3 Mistral "
                "Mixtral OPT PaliGemma Phi3 Qwen Qwen3 Qwen3Moe Qwen3_5 Qwen3_5Moe QwenMoe "
                "RWKV7 SmolLM3",
            ),
            ("Seq2SeqLM", {}, "Bart EdRec T5 T5Gemma T5Gemma2"),
            (
                "ImageClassifier",
                _CLASSES,
                "CSPNet DeiT DenseNet EfficientNet MiT MobileNet MobileNetV5 ResNet "
                "SwinTransformer VGG ViT Xception",
            ),
        )
        for family in families.split()
    },
    "BASNetImageSegmenter": ("BASNetBackbone", {}),
    "BLIP2CausalLM": ("BLIP2Backbone", {"preprocessor": None}),
    "BLIP2Seq2SeqLM": ("BLIP2Backbone, T5", {}),
    "DFineObjectDetector": ("DFineBackbone", {"num_classes": 4}),
    "DeepLabV3ImageSegmenter": (
        "DeepLabV3Backbone",
        {"num_classes": 2, "activation": "softmax"},
    ),
    "DepthAnythingDepthEstimator": (
        "DepthAnythingBackbone",
        {"depth_estimation_type": "metric", "max_depth": 10.0},
    ),
    "ESMMaskedPLM": ("ESMBackbone", {}),
    "ESMProteinClassifier": ("ESMBackbone", _CLASSES),
    "FluxTextToImage": ("FluxBackbone", {"preprocessor": None}),
    "HGNetV2ImageClassifier": ("HGNetV2Backbone", {"num_classes": 3, "preprocessor": None}),
    "MoonshineAudioToText": ("MoonshineBackbone", {}),
    "SAM3PromptableConceptImageSegmenter": ("SAM3PromptableConceptBackbone", {}),
    "SAMImageSegmenter": ("SAMBackbone", {}),
    "SegFormerImageSegmenter": ("SegFormerBackbone", {"num_classes": 4}),
    "StableDiffusion3ImageToImage": ("StableDiffusion3Backbone", {"preprocessor": None}),
    "StableDiffusion3Inpaint": ("StableDiffusion3Backbone", {"preprocessor": None}),
    "StableDiffusion3TextToImage": ("StableDiffusion3Backbone", {"preprocessor": None}),
}


def _make(kind: str, /, **arguments: Any) -> keras.Model:
    """Return a model of the class `kind` (up to a comma) of KerasHub."""
    import keras_hub

    return getattr(keras_hub.models, kind.partition(",")[0])(**arguments)


def _plain(name: str) -> keras.Model:
    return _make(name, **_PLAIN[name])


def _audio_encoder() -> keras.Model:
    """Return the encoder as a functional model: the class itself notes no inputs."""
    sound = keras.Input((None, _GEMMA4_AUDIO["input_feat_size"]), name="audio_mel")
    mask = keras.Input((None,), dtype="bool", name="audio_mel_mask")
    encoder = _make("Gemma4AudioEncoder", **_GEMMA4_AUDIO)
    return keras.Model([sound, mask], encoder(sound, mask))


def _dual_encoder(family: str, **more: Any) -> keras.Model:
    return _make(
        f"{family}Backbone",
        vision_encoder=_make(
            f"{family}VisionEncoder",
            **_PLAIN[f"{family}VisionEncoder"],
            name="vision_encoder",
        ),
        text_encoder=_make(
            f"{family}TextEncoder",
            **{**_PLAIN[f"{family}TextEncoder"], "vocabulary_size": 64},
            name="text_encoder",
        ),
        **more,
    )


def _blip2(language_model: str) -> keras.Model:
    return _make(
        "BLIP2Backbone",
        vision_encoder=_plain("BLIP2VisionEncoder"),
        qformer=_plain("BLIP2QFormer"),
        language_model=_plain(language_model),
    )


def _dfine(**more: Any) -> keras.Model:
    return _make(
        "DFineBackbone", backbone=_make("HGNetV2Backbone", **_HGNET_OF_DFINE), **_DFINE, **more
    )


def _dfine_denoising() -> keras.Model:
    labels = [
        {"boxes": np.array([[0.5, 0.5, 0.2, 0.2]]), "labels": np.array([1])},
        {"boxes": np.array([[0.6, 0.6, 0.3, 0.3]]), "labels": np.array([2])},
    ]
    return _dfine(box_noise_scale=1.0, label_noise_ratio=0.5, labels=labels)


def _depth_anything() -> keras.Model:
    encoder = {**_DINOV2, "num_layers": 4, "hidden_dim": 16, "intermediate_dim": 64}
    return _make(
        "DepthAnythingBackbone",
        image_encoder=_make(
            # Keras 3.15 refuses the 70 pixels of KerasHub's test: a map of 2x2 is below the kernel.
            "DINOV2Backbone",
            **{**encoder, "image_shape": (84, 84, 3)},
            apply_layernorm=True,
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[16, 32, 64, 128],
        fusion_hidden_dim=128,
        head_hidden_dim=16,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def _retinanet() -> keras.Model:
    return _make(
        "RetinaNetBackbone",
        image_encoder=_make("ResNetBackbone", **_BOTTLENECK),
        min_level=3,
        max_level=4,
        use_p5=False,
    )


def _retinanet_detector() -> keras.Model:
    import keras_hub

    anchors = keras_hub.layers.AnchorGenerator(
        bounding_box_format="yxyx",
        min_level=3,
        max_level=4,
        num_scales=3,
        aspect_ratios=[0.5, 1.0, 2.0],
        anchor_size=4,
    )
    return _make(
        "RetinaNetObjectDetector",
        backbone=_retinanet(),
        anchor_generator=anchors,
        num_classes=10,
        bounding_box_format="rel_yxyx",
    )


def _sam() -> keras.Model:
    import keras_hub

    return _make(
        "SAMBackbone",
        image_encoder=_make(
            "ViTDetBackbone",
            hidden_size=16,
            num_layers=16,
            intermediate_dim=64,
            num_heads=16,
            global_attention_layer_indices=[2, 5, 8, 11],
            patch_size=16,
            num_output_channels=32,
            window_size=2,
            image_shape=(128, 128, 3),
        ),
        prompt_encoder=keras_hub.layers.SAMPromptEncoder(
            hidden_size=32,
            image_embedding_size=(8, 8),
            input_image_size=(128, 128),
            mask_in_channels=16,
        ),
        mask_decoder=keras_hub.layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=32,
            intermediate_dim=32,
            num_heads=8,
            embedding_dim=32,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )


def _sam3() -> keras.Model:
    from keras_hub import layers

    sizes = {"num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32, "num_heads": 2}
    return _make(
        "SAM3PromptableConceptBackbone",
        vision_encoder=layers.SAM3VisionEncoder(
            image_shape=(28, 28, 3),
            patch_size=14,
            fpn_hidden_dim=16,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(42, 42, 3),
            window_size=2,
            global_attn_indexes=[1, 2],
            **sizes,
        ),
        text_encoder=layers.SAM3TextEncoder(vocabulary_size=32, embedding_dim=16, **sizes),
        geometry_encoder=layers.SAM3GeometryEncoder(roi_size=7, **sizes),
        detr_encoder=layers.SAM3DetrEncoder(**sizes),
        detr_decoder=layers.SAM3DetrDecoder(
            image_shape=(28, 28, 3), patch_size=14, num_queries=8, **sizes
        ),
        mask_decoder=layers.SAM3MaskDecoder(num_upsampling_stages=3, hidden_dim=16, num_heads=2),
    )


def _clip_text(width: int, activation: str, name: str) -> keras.Model:
    return _make(
        "CLIPTextEncoder",
        vocabulary_size=20,
        embedding_dim=width,
        hidden_dim=width,
        num_layers=2,
        num_heads=2,
        intermediate_dim=2 * width,
        intermediate_activation=activation,
        intermediate_output_index=-2,
        name=name,
    )


def _stable_diffusion() -> keras.Model:
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone  # its tests import it, too

    return _make(
        "StableDiffusion3Backbone",
        mmdit_patch_size=2,
        mmdit_hidden_dim=32,
        mmdit_num_layers=2,
        mmdit_num_heads=2,
        mmdit_position_size=192,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=VAEBackbone([32] * 4, [1] * 4, [32] * 4, [1] * 4, sampler_method="mode", name="vae"),
        clip_l=_clip_text(32, "quick_gelu", "clip_l"),
        clip_g=_clip_text(64, "gelu", "clip_g"),
        image_shape=(64, 64, 3),
    )


def _parseq() -> keras.Model:
    encoder = _make(
        "ViTBackbone",
        image_shape=(32, 128, 3),
        patch_size=(4, 8),
        num_layers=2,
        num_heads=2,
        hidden_dim=64,
        mlp_dim=256,
        use_class_token=False,
        name="image_encoder",
    )
    return _make(
        "PARSeqBackbone",
        image_encoder=encoder,
        vocabulary_size=97,
        max_label_length=25,
        decoder_hidden_dim=64,
        num_decoder_layers=1,
        num_decoder_heads=2,
        decoder_mlp_dim=256,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )


def _parseq_task() -> keras.Model:
    """Return the task, whose loss needs a tokenizer."""
    from keras_hub.models import PARSeqCausalLMPreprocessor, PARSeqTokenizer

    preprocessor = PARSeqCausalLMPreprocessor(
        tokenizer=PARSeqTokenizer(max_label_length=5), sequence_length=5
    )
    return _make("PARSeqCausalLM", preprocessor=preprocessor, backbone=_parseq())


def _gemma3n_multimodal() -> keras.Model:
    from keras_hub.src.models.gemma3n.gemma3n_audio_encoder import Gemma3nAudioEncoder

    vision = _make("MobileNetV5Backbone", **{**_MOBILENET_V5, "num_features": 16})
    return _make(
        "Gemma3nBackbone",
        **_GEMMA3N,
        vision_encoder_config=vision.get_config(),
        vision_hidden_size=48,
        audio_encoder_config=Gemma3nAudioEncoder(**_GEMMA3N_AUDIO).get_config(),
        audio_hidden_size=8,
    )


# Models that are made of others.
_COMPOSED: dict[str, Build] = {
    "BASNetBackbone": lambda: _make(
        "BASNetBackbone",
        image_encoder=_make(
            "ResNetBackbone",
            **{
                **_RESNET,
                "stackwise_num_filters": [64, 128, 256, 512],
                "stackwise_num_blocks": [2, 2, 2, 2],
                "stackwise_num_strides": [1, 2, 2, 2],
            },
        ),
        num_classes=1,
    ),
    "BLIP2Backbone": lambda: _blip2("BLIP2CustomOPT"),
    "BLIP2Backbone, T5": lambda: _blip2("BLIP2FlanT5"),
    "CLIPBackbone": lambda: _dual_encoder("CLIP", projection_dim=64),
    "DFineBackbone": _dfine,
    "DFineBackbone, denoising": _dfine_denoising,
    "DeepLabV3Backbone": lambda: _make(
        "DeepLabV3Backbone",
        image_encoder=_make("ResNetBackbone", **_RESNET),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P4",
        dilation_rates=[6, 12, 18],
        upsampling_size=4,
    ),
    "DepthAnythingBackbone": _depth_anything,
    "Gemma3Backbone, vision": lambda: _make(
        "Gemma3Backbone", **_GEMMA3, vision_encoder=_plain("Gemma3VisionEncoder")
    ),
    "Gemma3nBackbone, multimodal": _gemma3n_multimodal,
    "Gemma4AssistantCausalLM": lambda: _make(
        "Gemma4AssistantCausalLM",
        backbone=_make(
            "Gemma4Backbone",
            **{
                **_GEMMA4,
                "num_layers": 4,
                "num_query_heads": 4,
                "global_head_dim": 8,
                "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            },
        ),
        preprocessor=None,
        backbone_hidden_size=16,
        num_centroids=4,
        centroid_intermediate_top_k=2,
        use_ordered_embeddings=True,
    ),
    "Gemma4AudioEncoder": _audio_encoder,
    "Gemma4Backbone, audio": lambda: _make(
        "Gemma4Backbone",
        **_GEMMA4,
        audio_encoder=_make("Gemma4AudioEncoder", **_GEMMA4_AUDIO),
        num_audio_tokens_per_clip=4,
    ),
    "Gemma4Backbone, vision": lambda: _make(
        "Gemma4Backbone", **_GEMMA4, vision_encoder=_plain("Gemma4VisionEncoder")
    ),
    "MetaCLIP2Backbone": lambda: _dual_encoder("MetaCLIP2", projection_dim=64),
    "PARSeqBackbone": _parseq,
    "PARSeqCausalLM": _parseq_task,
    "RetinaNetBackbone": _retinanet,
    "RetinaNetObjectDetector": _retinanet_detector,
    "SAM3PromptableConceptBackbone": _sam3,
    "SAMBackbone": _sam,
    "SegFormerBackbone": lambda: _make(
        "SegFormerBackbone",
        image_encoder=_make(
            "MiTBackbone", **{**_MIT, "image_shape": (224, 224, 3), "hidden_dims": [32, 64]}
        ),
        projection_filters=256,
    ),
    "SigLIPBackbone": lambda: _dual_encoder("SigLIP"),
    "StableDiffusion3Backbone": _stable_diffusion,
    "T5Gemma2Backbone, vision": lambda: _make(
        "T5Gemma2Backbone",
        **_ENCODER_DECODER,
        use_query_key_norm=True,
        vision_encoder=_make("Gemma3VisionEncoder", **{**_GEMMA3_VISION, "output_dim": 32}),
    ),
}


def _places(count: int, size: int, start: int) -> np.ndarray:
    """Return a mask of `size` tokens that is 1 at `count` of them."""
    return (np.arange(size) >= start) & (np.arange(size) < start + count)


def _images_in_text(size: int) -> Inputs:
    """Three images of four tokens each, among `size` tokens."""
    random = np.random.default_rng(0)
    places = _places(12, size, 3)
    return {
        "images": random.uniform(0, 1, (3, 16, 16, 3)),
        "pixel_values": random.uniform(0, 1, (3, 16, 48)),
        "pixel_position_ids": np.stack(np.divmod(np.arange(16), 4), axis=-1)[None].repeat(3, 0),
        "vision_indices": np.flatnonzero(places),
        "vision_mask": places,
        "position_ids": np.arange(size),
    }


def _audio_in_text(size: int) -> Inputs:
    """One clip of four tokens, among `size` tokens."""
    places = _places(4, size, 2)
    return {
        "audio_mel": np.random.default_rng(0).uniform(0, 1, (1, 16, 8)),
        "audio_mel_mask": np.ones((1, 16)),
        "audio_indices": np.flatnonzero(places),
        "audio_mask": places,
        "position_ids": np.arange(size),
    }


def _gemma3n_inputs(_size: int) -> Inputs:
    random = np.random.default_rng(0)
    return {
        "images": random.uniform(0, 1, (1, 32, 32, 3)),
        "input_features": random.uniform(0, 1, (1, 16, 32)),
        "input_features_mask": np.zeros((1, 16)),
    }


def _speech(size: int) -> Inputs:
    sound = np.random.default_rng(0).normal(size=(800 * size, 1))
    return {"encoder_input_values": sound, "encoder_padding_mask": np.ones(len(sound))}


def _prompts(_size: int) -> Inputs:
    return {
        "points": np.array([[40.0, 60.0]]),
        "labels": np.ones(1),
        "boxes": np.array([[[20.0, 20.0], [90.0, 70.0]]]),
        "masks": np.zeros((0, 128, 128, 1)),
    }


def _boxes(_size: int) -> Inputs:
    return {"boxes": np.array([[0.5, 0.5, 0.3, 0.4, 0.0]]), "box_labels": np.ones(1)}


def _diffusion(_size: int) -> Inputs:
    return {"num_steps": np.array(4), "guidance_scale": np.array(3.0)}


_IMAGES = (64, 96)
# Sizes and inputs by the beginning of the name, for models unlike those of text.
_TRIED: Mapping[str, tuple[tuple[int, ...], Callable[[int], Inputs] | None]] = {
    "BASNet": (_IMAGES, None),
    "CSPNet": (_IMAGES, None),
    "DFine": ((32,), None),
    "DeepLabV3": ((96, 128), None),
    "EfficientNet": (_IMAGES, None),
    "Gemma3Backbone, vision": ((24, 20), _images_in_text),
    "Gemma3nBackbone, multimodal": ((16,), _gemma3n_inputs),
    "Gemma4AudioEncoder": ((16, 24), None),
    "Gemma4Backbone, audio": ((10, 8), _audio_in_text),
    "Gemma4Backbone, vision": ((24, 20), _images_in_text),
    "Gemma4VisionEncoder": (
        (5,),
        lambda _size: {
            key: array for key, array in _images_in_text(20).items() if key.startswith("pixel")
        },
    ),
    "Moonshine": ((5, 4), _speech),
    "RWKV7": ((16, 32), None),
    "ResNet": (_IMAGES, None),
    "RetinaNet": ((128, 64), None),
    "SAM3": ((8, 5), _boxes),
    "SAM": ((1,), _prompts),
    "SigLIP": ((64,), None),  # its places are for texts of this length only
    "StableDiffusion3": ((5, 7), _diffusion),
    "T5Gemma2Backbone, vision": (
        (12, 9),
        lambda size: {
            "images": np.random.default_rng(0).uniform(0, 1, (1, 16, 16, 3)),
            "vision_indices": np.flatnonzero(_places(4, size, 1)),
        },
    ),
    "Xception": (_IMAGES, None),
}


def hub_models() -> dict[str, HubModel]:
    """Return how to build every backbone and task, by name: first the backbones, then the tasks."""
    builders: dict[str, Build] = {name: partial(_plain, name) for name in _PLAIN}
    builders |= _COMPOSED
    builders |= {
        task: partial(_task, task, backbone, arguments)
        for task, (backbone, arguments) in _TASKS.items()
    }
    return {name: _tried(name, build) for name, build in sorted(builders.items())}


def _task(task: str, backbone: str, arguments: dict[str, Any]) -> keras.Model:
    build = _COMPOSED.get(backbone) or partial(_plain, backbone)
    return _make(task, backbone=build(), **arguments)


def _tried(name: str, build: Build) -> HubModel:
    for beginning, (sizes, draw) in _TRIED.items():
        if name.startswith(beginning):
            return HubModel(build, sizes) if draw is None else HubModel(build, sizes, draw)
    return HubModel(build)
