import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// LSTM, GRU and plain recurrent layers in f32 with constant weights: one matrix product for the inputs of all steps,
/// then the recurrence.
struct RecurrentTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "recurrent"

  private static let gateCounts = ["lstm": 4, "gru": 3, "rnn": 1]
  private static let functions = ["sigmoid": "apus_sigmoid_f32", "tanh": "apus_tanh_f32", "relu": "apus_relu_f32"]

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let gates = Self.gateCounts[node.op.name] else { return "it is no recurrent layer" }
    guard graph.tensorType(node.inputs[0]).dtype == .f32 else { return "it is not f32" }
    for operand in 1...3 where graph[node.inputs[operand]].constant == nil { return "the weights are not constant" }
    if macros(node, gates) == nil { return "its activations have no kernel" }
    if let lengths = lengths(node), graph.tensorType(lengths).dtype != .i32 { return "the lengths are not i32" }
    return nil
  }

  private func lengths(_ node: Node) -> ValueID? {
    (try? node.op.attributes.bool("has_sequence_lens")) == true ? node.inputs.last : nil
  }

  /// Macros naming the activations; nil where a direction has its own or one has parameters.
  private func macros(_ node: Node, _ gates: Int) -> [String]? {
    guard let names = try? node.op.attributes.strings("activations") else { return nil }
    let perDirection = gates == 4 ? 3 : gates == 3 ? 2 : 1
    let first = Array(names.prefix(perDirection))
    guard names.count % perDirection == 0,
      names == Array(repeating: first, count: names.count / perDirection).flatMap({ $0 })
    else { return nil }
    let functions = first.compactMap { Self.functions[$0] }
    guard functions.count == perDirection else { return nil }
    switch perDirection {
    case 3: return ["RNN_F \(functions[0])", "RNN_G \(functions[1])", "RNN_H \(functions[2])"]
    case 2: return ["RNN_F \(functions[0])", "RNN_G \(functions[1])"]
    default: return ["RNN_G \(functions[0])"]
    }
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    guard let gates = Self.gateCounts[node.op.name], let w = graph[node.inputs[1]].constant,
      let r = graph[node.inputs[2]].constant, let b = graph[node.inputs[3]].constant, let macros = macros(node, gates)
    else { return }
    let layer = Layer(node, graph, gates: gates, directions: w.shape[0], hidden: r.shape[2], width: w.shape[2])
    let products = emitInputs(layer, w, b, node, &builder)
    emitRecurrence(layer, products, r, b, macros, node, &builder)
  }

  private struct Layer {
    let steps: Dim
    let batch: Dim
    let gates: Int
    let directions: Int
    let hidden: Int
    let width: Int
    let linearBeforeReset: Bool
    let inputForget: Bool
    let clip: Double
    let reverse: Int

    init(_ node: Node, _ graph: Graph, gates: Int, directions: Int, hidden: Int, width: Int) {
      let x = graph.tensorType(node.inputs[0])
      (steps, batch) = (x.shape[0], x.shape[1])
      (self.gates, self.directions, self.hidden, self.width) = (gates, directions, hidden, width)
      linearBeforeReset = (try? node.op.attributes.bool("linear_before_reset")) ?? false
      inputForget = (try? node.op.attributes.bool("input_forget")) ?? false
      clip = (try? node.op.attributes.float("clip")) ?? 0
      let direction = try? node.op.attributes.string("direction")
      reverse = direction == "reverse" ? 1 : direction == "bidirectional" ? 2 : 0
    }

    var columns: Int { directions * gates * hidden }
  }

  /// x·Wᵀ + biases of all steps: `[T, B, D, gates, H]`.
  private func emitInputs(
    _ layer: Layer, _ w: HostTensor, _ b: HostTensor, _ node: Node, _ builder: inout StepBuilder
  ) -> Int {
    let block = GemmBlock(cpu: cpu, columns: layer.columns)
    let packed = block.pack(w, batches: 1, depth: layer.width, columns: layer.columns) { $2 * layer.width + $1 }
    let rows = layer.steps * layer.batch
    let target = builder.addTemporary(.f32, rows * Dim(layer.columns))
    let source = """
      \(KernelText.prelude)APUS_INLINE void KERNEL_NAME_epilogue(const void *ctx, const float *tile, i64 ts, i64 batch, i64 row,
          i64 rows, i64 col, i64 cols) {
        const apus_ctx *c = (const apus_ctx *)ctx;
        const float *const bias = (const float *)c->buffers[2];
        float *const out = (float *)c->buffers[3];
        for (i64 i = 0; i < rows; i++)
          APUS_LANES for (i64 j = 0; j < cols; j++) out[(row + i) * \(layer.columns) + col + j] = tile[i * ts + j] + bias[col + j];
      }
      #define KERNEL KERNEL_NAME
      #define EPILOGUE KERNEL_NAME_epilogue
      \(block.macros().map { "#define \($0)" }.joined(separator: "\n"))
      \(KernelText.gemm)void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {
        const apus_ctx ctx = {buffers, params};
        const apus_matmul_args g = {.a = buffers[0], .b = buffers[1], .ctx = &ctx, .batch = 1, .inner = 1, .M = params[0],
          .N = \(layer.columns), .K = \(layer.width), .aRow = \(layer.width), .aK = 1};
        KERNEL_NAME_matmul(&g, block, blockCount, scratch);
      }

      """
    let code = KernelCode(
      source: source, parameters: [rows],
      blocks: block.blocks(batches: 1, rows: rows, columns: Dim(layer.columns), depth: Dim(layer.width)))
    let buffers = [
      builder.slot(node.inputs[0]), builder.addConstant(packed, name: "w"),
      builder.addConstant(inputBias(layer, b), name: "b"), target,
    ]
    builder.launch(
      code, buffers: buffers, name: "\(node.op.name) inputs", sources: [node.name], tactic: block.tactic,
      work: 2 * rows * Dim(layer.columns * layer.width))
    return target
  }

  /// The biases added before the recurrence: both, but for the candidate gate of a GRU whose reset gate comes after.
  private func inputBias(_ layer: Layer, _ b: HostTensor) -> HostTensor {
    let values = b.doubles
    let size = layer.gates * layer.hidden
    var sums = [Double](repeating: 0, count: layer.columns)
    for direction in 0..<layer.directions {
      for unit in 0..<size {
        let isLate = layer.linearBeforeReset && unit >= 2 * layer.hidden
        sums[direction * size + unit] =
          values[direction * 2 * size + unit] + (isLate ? 0 : values[direction * 2 * size + size + unit])
      }
    }
    return HostTensor(.f32, [layer.columns], doubles: sums)
  }

  /// The recurrent bias of a GRU's candidate gate, for layers that add it after the reset gate.
  private func lateBias(_ layer: Layer, _ b: HostTensor) -> HostTensor {
    let hidden = layer.hidden
    guard layer.linearBeforeReset else { return HostTensor(.f32, [layer.directions, hidden]) }
    let values = b.doubles
    var result: [Double] = []
    for direction in 0..<layer.directions {
      let start = direction * 6 * hidden + 5 * hidden
      result += values[start..<start + hidden]
    }
    return HostTensor(.f32, [layer.directions, hidden], doubles: result)
  }

  private func emitRecurrence(
    _ layer: Layer, _ products: Int, _ r: HostTensor, _ b: HostTensor, _ macros: [String], _ node: Node,
    _ builder: inout StepBuilder
  ) {
    let block = GemmBlock(cpu: cpu, columns: nil)
    let hidden = layer.hidden
    let packed = block.pack(r, batches: layer.directions * layer.gates, depth: hidden, columns: hidden) { batch, k, n in
      (batch * hidden + n) * hidden + k
    }
    let isLSTM = node.op.name == "lstm"
    let lateBias = lateBias(layer, b)
    var buffers = [products, builder.addConstant(packed, name: "r"), builder.addConstant(lateBias, name: "rb")]
    buffers += [builder.slot(node.inputs[4])]
    var fields =
      ".rBias = \(layer.linearBeforeReset ? "(const float *)buffers[2]" : "0"), .h0 = (const float *)buffers[3]"
    func add(_ field: String, _ type: String, _ slot: Int) {
      fields += ", .\(field) = (\(type) *)buffers[\(buffers.count)]"
      buffers.append(slot)
    }
    if isLSTM {
      add("c0", "const float", builder.slot(node.inputs[5]))
      let peephole = builder.graph[node.inputs[6]].constant
      if peephole?.doubles.allSatisfy({ $0 == 0 }) != true {
        add("peephole", "const float", builder.slot(node.inputs[6]))
      }
    }
    if let lengths = lengths(node) { add("lengths", "const i32", builder.slot(lengths)) }
    for (field, output) in zip(["y", "yh", "yc"], node.outputs) { add(field, "float", builder.allocate(output)) }
    let kind = isLSTM ? "lstm" : node.op.name
    let source = """
      \(KernelText.prelude)#define KERNEL KERNEL_NAME
      \(macros.map { "#define \($0)\n" }.joined())\(block.macros().map { "#define \($0)" }.joined(separator: "\n"))
      \(KernelText.gemm)\(KernelText.recurrent)void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {
        const i64 steps = params[0], B = params[1], D = \(layer.directions), H = \(hidden), G = \(layer.gates);
        const apus_rnn_args g = {.x = (const float *)buffers[0], .r = (const float *)buffers[1], \(fields),
          .steps = steps, .B = B, .D = D, .H = H, .xT = B * D * G * H, .xB = D * G * H, .xD = G * H, .rbD = H, .sD = B * H,
          .sB = H, .yT = D * B * H, .yD = B * H, .yB = H, .reverse = \(layer.reverse),
          .linearBeforeReset = \(layer.linearBeforeReset ? 1 : 0), .inputForget = \(layer.inputForget ? 1 : 0),
          .clip = \(CDialect.float(layer.clip, .f32))};
        KERNEL_NAME_\(kind)(&g, block, blockCount, scratch);
      }

      """
    let rounded = (hidden + block.columns - 1) / block.columns * block.columns
    let code = KernelCode(
      source: source, parameters: [layer.steps, layer.batch],
      blocks: Dim.maximum(Dim(layer.directions), (layer.batch * Dim(layer.directions)).floorDivided(by: 4)),
      scratchBytes: Dim(4 * block.rows * rounded * 4))
    builder.launch(
      code, buffers: buffers, name: node.op.name, sources: [node.name], tactic: "recurrent",
      work: 2 * layer.steps * layer.batch * Dim(layer.columns * hidden))
  }
}
