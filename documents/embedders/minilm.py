"""all-MiniLM-L6-v2 as an ONNX graph: a six-layer BERT, mean pooling, unit length.

The graph is put together in memory, in a few milliseconds, and uses the weights of the model's safetensors
file as they are; nothing is written to disk. It takes one text at a time, which on CPUs is as fast as many,
and so needs neither padding nor masks: no vector depends on its neighbours, nor memory on the batch.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import helper
from safetensors.numpy import load_file

from documents.tokenizer import WEIGHTS_FILE

DIMENSIONS = 384
MAX_TOKENS = 512
LAYERS = 6
HEADS = 12
EPSILON = 1e-12

OPSET = 18
IR_VERSION = 9
CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators, among them an attention in one kernel."""


class MiniLM:
    """The model, loaded from `directory`. Several threads may call it at once; each call runs on its own."""

    def __init__(self, directory: Path) -> None:
        graph = _Graph(load_file(directory / WEIGHTS_FILE))
        model = graph.model()
        self._weights = graph.weights()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        # The extended level would fuse Add and LayerNormalization into a kernel five times as slow.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # These values borrow the arrays' memory: self._weights keeps them alive.
        options.add_external_initializers(
            list(self._weights),
            [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in self._weights.values()],
        )
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def vector(self, tokens: list[int]) -> NDArray[np.float32]:
        """The unit vector, shape (384,), of one text's token ids, at most MAX_TOKENS with [CLS] and [SEP]."""
        (vector,) = self._session.run(None, {"tokens": np.array(tokens, np.int64)})
        return np.asarray(vector, np.float32)


class _Graph:
    """Writes the graph node by node. A value is named after the weights that made it."""

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Those of the given weights that the nodes written so far use."""
        used = {name for node in self._nodes for name in node.input}
        return {name: weight for name, weight in self._weights.items() if name in used}

    def model(self) -> onnx.ModelProto:
        hidden = self._embeddings()
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        total = self._node("ReduceSum", [hidden, "first"], "total", keepdims=0)
        # The mean is the total divided by the number of tokens; at unit length the two are the same.
        vector = self._node("LpNormalization", [total], "vector", axis=-1, p=2)
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["length"])],
            [helper.make_tensor_value_info(vector, onnx.TensorProto.FLOAT, [DIMENSIONS])],
            [*self._constants(), *self._external_weights()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _embeddings(self) -> str:
        name = "embeddings"
        words = self._node("Gather", [f"{name}.word_embeddings.weight", "tokens"], "words")
        length = self._node("Shape", ["tokens"], "length")
        positions = self._node(
            "Slice", [f"{name}.position_embeddings.weight", "first", length, "first"], "positions"
        )
        kind = self._node(
            "Slice", [f"{name}.token_type_embeddings.weight", "first", "second", "first"], "kind"
        )
        placed = self._node("Add", [words, positions], "placed")
        return self._norm(self._node("Add", [placed, kind], "embedded"), f"{name}.LayerNorm")

    def _layer(self, hidden: str, name: str) -> str:
        attended = self._residual(
            self._attention(hidden, f"{name}.attention.self"), hidden, f"{name}.attention.output"
        )
        inner = self._dense(attended, f"{name}.intermediate.dense")
        active = self._node("Gelu", [inner], f"{name}.gelu", domain=CONTRIB)
        return self._residual(active, attended, f"{name}.output")

    def _attention(self, hidden: str, name: str) -> str:
        parts = [
            self._node("Unsqueeze", [self._dense(hidden, f"{name}.{part}"), "first"], f"{name}.{part}.batch")
            for part in ("query", "key", "value")
        ]
        heads = self._node("MultiHeadAttention", parts, name, domain=CONTRIB, num_heads=HEADS)
        return self._node("Squeeze", [heads, "first"], f"{name}.text")

    def _residual(self, inner: str, hidden: str, name: str) -> str:
        total = self._node("Add", [self._dense(inner, f"{name}.dense"), hidden], f"{name}.total")
        return self._norm(total, f"{name}.LayerNorm")

    def _dense(self, value: str, name: str) -> str:
        return self._node("Gemm", [value, f"{name}.weight", f"{name}.bias"], name, transB=1)

    def _norm(self, value: str, name: str) -> str:
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def _node(
        self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any
    ) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], output, domain=domain, **attributes))
        return output

    def _constants(self) -> list[onnx.TensorProto]:
        return [
            onnx.numpy_helper.from_array(np.array([number], np.int64), name)
            for number, name in enumerate(("first", "second"))
        ]

    def _external_weights(self) -> list[onnx.TensorProto]:
        """Name and shape only; the numbers are handed to the session beside the graph."""
        tensors = []
        for name, weight in self.weights().items():
            tensor = onnx.TensorProto(name=name, dims=weight.shape, data_type=onnx.TensorProto.FLOAT)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=WEIGHTS_FILE)
            tensors.append(tensor)
        return tensors
