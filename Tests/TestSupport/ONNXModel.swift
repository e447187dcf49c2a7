/// Parts of ONNX models, written without the importer's own protobuf code.
package enum ONNXModel {
  package static let float = 1
  package static let int64 = 7
  package static let bool = 9

  package static func model(
    _ nodes: [Proto], inputs: [Proto], outputs: [Proto], constants: [Proto] = [], opset: Int = 21
  ) -> Proto {
    Proto().adding(1, 10).adding(8, Proto().adding(1, "").adding(2, opset))
      .adding(7, graph(nodes, inputs: inputs, outputs: outputs, constants: constants))
  }

  package static func graph(
    _ nodes: [Proto], inputs: [Proto], outputs: [Proto], constants: [Proto] = []
  ) -> Proto {
    Proto().adding(1, nodes).adding(2, "g").adding(5, constants).adding(11, inputs).adding(12, outputs)
  }

  package static func node(
    _ type: String, _ inputs: [String], _ outputs: [String], name: String = "", _ attributes: [Proto] = []
  ) -> Proto {
    Proto().adding(1, inputs).adding(2, outputs).adding(3, name).adding(4, type).adding(5, attributes)
  }

  package static func attribute(_ name: String, _ value: Int) -> Proto {
    Proto().adding(1, name).adding(3, value).adding(20, 2)
  }

  package static func attribute(_ name: String, _ values: [Int]) -> Proto {
    Proto().adding(1, name).adding(8, values).adding(20, 7)
  }

  package static func attribute(_ name: String, float value: Float) -> Proto {
    Proto().adding(1, name).adding(2, value).adding(20, 1)
  }

  package static func attribute(_ name: String, _ text: String) -> Proto {
    Proto().adding(1, name).adding(4, text).adding(20, 3)
  }

  package static func attribute(_ name: String, graph: Proto) -> Proto {
    Proto().adding(1, name).adding(6, graph).adding(20, 5)
  }

  /// A dim is a number, or a name for a dynamic one.
  package static func value(_ name: String, _ type: Int, _ dims: [any CustomStringConvertible]) -> Proto {
    Proto().adding(1, name).adding(2, self.type(type, dims))
  }

  package static func type(_ type: Int, _ dims: [any CustomStringConvertible]) -> Proto {
    let shape = dims.map { dim in
      (dim as? Int).map { Proto().adding(1, $0) } ?? Proto().adding(2, "\(dim)")
    }
    return Proto().adding(1, Proto().adding(1, type).adding(2, Proto().adding(1, shape)))
  }

  package static func constant(_ name: String, _ dims: [Int], floats: [Float]) -> Proto {
    tensor(name, dims, float, floats.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian) { Array($0) } })
  }

  package static func constant(_ name: String, _ dims: [Int], ints: [Int]) -> Proto {
    tensor(name, dims, int64, ints.flatMap { withUnsafeBytes(of: Int64($0).littleEndian) { Array($0) } })
  }

  package static func tensor(_ name: String, _ dims: [Int], _ type: Int, _ bytes: [UInt8]) -> Proto {
    Proto().adding(1, dims).adding(2, type).adding(8, name).adding(9, bytes)
  }
}

extension ONNXModel {
  /// `y = relu(x · w)`, `x` of `n` rows.
  package static let product = model(
    [node("MatMul", ["x", "w"], ["h"], name: "mlp/product"), node("Relu", ["h"], ["y"], name: "mlp/act")],
    inputs: [value("x", float, ["n", 4])], outputs: [value("y", float, ["n", 3])],
    constants: [constant("w", [4, 3], floats: (0..<12).map { Float($0) - 5.5 })])

  /// Convolution, pooling, normalisation, and a reshape whose target is computed.
  package static let image = model(
    [
      node(
        "Conv", ["x", "k", "b"], ["c"], name: "conv", [attribute("pads", [1, 1, 1, 1]), attribute("strides", [2, 2])]),
      node("MaxPool", ["c"], ["p"], name: "pool", [attribute("kernel_shape", [2, 2]), attribute("ceil_mode", 1)]),
      node("Shape", ["p"], ["s"], name: "shape"), node("Gather", ["s", "zero"], ["batch"], name: "batch"),
      node("Concat", ["batch", "rest"], ["target"], name: "target", [attribute("axis", 0)]),
      node("Reshape", ["p", "target"], ["flat"], name: "flat"),
      node("Softmax", ["flat"], ["y"], name: "softmax", [attribute("axis", -1)]),
      node("Resize", ["c", "", "scales"], ["z"], name: "resize", [attribute("mode", "linear")]),
    ], inputs: [value("x", float, ["n", 2, 8, 8])], outputs: [value("y", float, ["n", "m"]), value("z", float, [])],
    constants: [
      constant("k", [3, 2, 3, 3], floats: (0..<54).map { Float($0 % 7) * 0.25 - 0.5 }),
      constant("b", [3], floats: [0.5, -1, 2]), constant("zero", [1], ints: [0]), constant("rest", [1], ints: [-1]),
      constant("scales", [4], floats: [1, 1, 2, 1.5]),
    ])

  /// Slices, pads, reductions, gathers, comparisons and a top-k.
  package static let movement = model(
    [
      node("Slice", ["x", "from", "to", "axes", "steps"], ["a"], name: "slice"),
      node("Pad", ["a", "pads"], ["b"], name: "pad", [attribute("mode", "reflect")]),
      node("Transpose", ["b"], ["t"], name: "transpose", [attribute("perm", [1, 0])]),
      node("ReduceMean", ["t", "axes"], ["r"], name: "mean", [attribute("keepdims", 1)]),
      node("Sub", ["t", "r"], ["d"], name: "sub"), node("Greater", ["d", "r"], ["g"], name: "greater"),
      node("Where", ["g", "d", "r"], ["w"], name: "where"),
      node("TopK", ["w", "two"], ["y", "i"], name: "top", [attribute("axis", 0)]),
      node("Gather", ["x", "i"], ["z"], name: "gather", [attribute("axis", 0)]),
      node("Clip", ["w", "low"], ["v"], name: "clip"), node("NonZero", ["v"], ["u"], name: "nonzero"),
    ], inputs: [value("x", float, ["n", 6])],
    outputs: [value("y", float, [2, "q"]), value("z", float, []), value("u", int64, [2, "found"])],
    constants: [
      constant("from", [1], ints: [0]), constant("to", [1], ints: [1 << 62]), constant("axes", [1], ints: [1]),
      constant("steps", [1], ints: [2]), constant("pads", [4], ints: [0, 1, 0, 1]), constant("two", [1], ints: [2]),
      constant("low", [], floats: [0.25]),
    ])

  /// A loop with a branch in its body.
  package static let control = model(
    [
      node("ReduceSum", ["x"], ["total"], name: "sum", [attribute("keepdims", 0)]),
      node("Greater", ["total", "half"], ["is"], name: "greater"),
      node(
        "If", ["is"], ["start"], name: "if",
        [
          attribute(
            "then_branch", graph: graph([node("Neg", ["x"], ["p"])], inputs: [], outputs: [value("p", float, ["n"])])),
          attribute(
            "else_branch", graph: graph([node("Abs", ["x"], ["q"])], inputs: [], outputs: [value("q", float, ["n"])])),
        ]),
      node(
        "Loop", ["trips", "", "start"], ["y", "rows"], name: "loop",
        [
          attribute(
            "body",
            graph: graph(
              [
                node("Add", ["state", "x"], ["next"]), node("Identity", ["going"], ["still"]),
                node("Mul", ["next", "half"], ["row"]),
              ], inputs: [value("i", int64, []), value("going", bool, []), value("state", float, ["n"])],
              outputs: [value("still", bool, []), value("next", float, ["n"]), value("row", float, ["n"])]))
        ]),
    ], inputs: [value("x", float, ["n"])], outputs: [value("y", float, ["n"]), value("rows", float, ["k", "n"])],
    constants: [constant("half", [], floats: [0.5]), constant("trips", [], ints: [3])])

  /// `y = relu(reshape(x, shape))`, `x` of `n` rows and 8 columns; the input `shape` decides sizes.
  package static let refold = model(
    [node("Reshape", ["x", "shape"], ["r"], name: "fold"), node("Relu", ["r"], ["y"], name: "act")],
    inputs: [value("x", float, ["n", 8]), value("shape", int64, [2])], outputs: [value("y", float, ["p", "q"])])

  package static let all: [(name: String, model: Proto)] = [
    ("product", product), ("image", image), ("movement", movement), ("control", control),
  ]
}
