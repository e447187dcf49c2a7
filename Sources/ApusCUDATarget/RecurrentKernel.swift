import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// LSTM, GRU and plain recurrent layers: one matrix product for the inputs of all steps, then all steps in one launch.
struct RecurrentKernel: OperationKernel {
  let operations = ["lstm", "gru", "rnn"]
  let architecture: CUDAArchitecture
  let loops: GeneratedLoops
  /// Computes the product of the inputs; generated loops do where there is none.
  let product: (any KernelTemplate)?

  private static let threads = 512

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let op = node.op as? RecurrentLayer else { return "it is no recurrent layer" }
    let type = graph.tensorType(node.inputs[0])
    guard [.f64, .f32, .f16, .bf16].contains(type.dtype) else { return "elements are \(type.dtype)" }
    return Self.stateByteCount(op, type.dtype, rows: 1) > 96 << 10 ? "\(op.hiddenSize) units do not fit a block" : nil
  }

  private static func stateByteCount(_ op: RecurrentLayer, _ dtype: DType, rows: Int) -> Int {
    3 * rows * op.hiddenSize * (dtype == .f64 ? 8 : 4)
  }

  func emit(_ node: Node, into builder: inout StepBuilder) throws(BuildError) {
    guard let op = node.op as? RecurrentLayer else { return }
    let x = builder.graph.tensorType(node.inputs[0])
    let products = try emitProducts(op, node, into: &builder)
    let (steps, batch) = (x.shape[0], x.shape[1])
    let (hidden, directions) = (op.hiddenSize, op.direction.count)
    var rows = 8
    while rows > 1, rows > max(batch.estimate, 1) || Self.stateByteCount(op, x.dtype, rows: rows) > 96 << 10 {
      rows /= 2
    }
    let groups = batch.ceilDivided(by: Dim(rows)) * Dim(directions)
    let cluster = architecture.capability >= 90 && hidden >= 64 ? 8 : 1
    let work: DType = x.dtype == .f64 ? .f64 : .f32
    let kept = builder.addTemporary(work, Dim(directions) * batch * Dim(hidden))
    let exchange = builder.addTemporary(work, 3 * groups * Dim(rows * hidden))
    // x·Wᵀ, r, b, h0, and for lstm c0 and p.
    let isLSTM = op.cell == .lstm
    var buffers = [products] + node.inputs[2...(isLSTM ? 6 : 4)].map { builder.slot($0) }
    var fields = ["(const V *)b[0]", "(const R *)b[1]", "(const R *)b[2]", "(const R *)b[3]"]
    fields += isLSTM ? ["(const R *)b[4]", "(const R *)b[5]"] : ["0", "0"]
    func add(_ type: String, _ slot: Int?) {
      guard let slot else { return fields.append("0") }
      fields.append("(\(type) *)b[\(buffers.count)]")
      buffers.append(slot)
    }
    let lengths = op.hasSequenceLengths ? node.inputs.last : nil
    add("const typename KERNEL_NAME_layer::index", lengths.map { builder.slot($0) })
    for output in node.outputs { add("R", builder.allocate(output)) }
    if !isLSTM { fields.append("0") }
    add("V", kept)
    add("V", exchange)
    let index = lengths.map { CDialect.storage(builder.graph.tensorType($0).dtype) } ?? "i32"
    OperationCall(
      texts: [layerText(op, x.dtype, index: index, rows: rows, cluster: cluster), CUDAText.recurrent],
      call: """
          typedef typename KERNEL_NAME_layer::value V;
          typedef typename KERNEL_NAME_layer::raw R;
          apus_recurrent<KERNEL_NAME_layer> layer = {\(fields.joined(separator: ", ")), p[0], p[1], \(directions), \(hidden), \
        p[2], 0, 0, 0, 0, 0, 0};
          layer.run(block, blockCount, shared);

        """,
      buffers: buffers, parameters: [steps, batch, groups], units: groups, threads: Self.threads,
      sharedByteCount: Self.stateByteCount(op, x.dtype, rows: rows), cluster: cluster
    ).emit(
      node, tactic: "recurrent \(rows)\(cluster > 1 ? " cluster \(cluster)" : "")",
      work: 2 * steps * batch * Dim(directions * op.cell.gateCount * hidden * hidden), into: &builder)
  }

  /// x·Wᵀ of all steps, `[T · B, D · gates · H]`, in a slot of f32 (f64 for f64).
  private func emitProducts(
    _ op: RecurrentLayer, _ node: Node, into builder: inout StepBuilder
  ) throws(BuildError) -> Int {
    let x = builder.graph.tensorType(node.inputs[0])
    let rows = x.shape[0] * x.shape[1]
    let columns = Dim(op.direction.count * op.cell.gateCount * op.hiddenSize)
    let left = x.with(shape: [rows, x.shape[2]])
    let weights = x.with(shape: [columns, x.shape[2]])
    let slots = (builder.slot(node.inputs[0]), builder.slot(node.inputs[1]))
    let result = TensorType(x.dtype == .f64 ? .f64 : .f32, [rows, columns])
    let target = builder.addTemporary(result.dtype, rows * columns)
    guard let product else {
      loops.emit(node, result, into: target, [(slots.0, left), (slots.1, weights)], &builder) { operands in
        Operand(result) { coordinates, arena in
          let inner = arena.makeVariable(x.shape[2])
          let factors = [
            operands[0].at([coordinates[0], inner.dim], arena), operands[1].at([coordinates[1], inner.dim], arena),
          ]
          return arena.reduce(.sum, over: [inner], arena.binary(.mul, factors[0], factors[1]))
        }
      }
      return target
    }
    var graph = Graph()
    let a = graph.addInput("x", .tensor(left))
    let w = graph.addInput("w", .tensor(weights))
    do {
      let transposed = try graph.add(Transpose([1, 0]), [w], name: "").first ?? w
      let outputs = try graph.add(WideProduct(), [a, transposed], name: node.name)
      guard let output = outputs.first, let id = graph.producer(output) else { return target }
      let region = AnchorRegion(
        id, of: graph, result: output, views: [transposed: StridedView(w, graph.tensorType(w), permutation: [1, 0])])
      try builder.entering(graph) { builder throws(BuildError) in
        builder.place(a, in: slots.0)
        builder.place(w, in: slots.1)
        builder.place(output, in: target)
        try product.emit(region, into: &builder)
      }
    } catch let error as BuildError { throw error } catch {
      throw BuildError("APUS-B-0012", "\(op.name): the product of the inputs: \(error)")
    }
    return target
  }

  /// The C type that says what a layer is.
  private func layerText(_ op: RecurrentLayer, _ dtype: DType, index: String, rows: Int, cluster: Int) -> String {
    let compute: DType = dtype == .f64 ? .f64 : .f32
    let isCoupled = op.cell == .gru ? op.linearBeforeReset : op.inputForget
    let count = op.cell.activationCount
    let cases = op.activations.enumerated().map { number, activation in
      "    if (direction == \(number / count) && which == \(number % count)) return \(activation.text(compute));\n"
    }
    var vector = 16 / dtype.byteCount
    while op.hiddenSize % vector != 0 { vector /= 2 }
    return CombiningText(name: "KERNEL_NAME_element", dtype: dtype).text + """
      struct KERNEL_NAME_layer : KERNEL_NAME_element {
        typedef \(index) index;
        static constexpr int cell = \(op.cell == .lstm ? 0 : op.cell == .gru ? 1 : 2), rows = \(rows), vec = \(vector);
        static constexpr int threads = \(Self.threads), cluster = \(cluster);
        static constexpr int reverse = \((0..<op.direction.count).reduce(0) { $0 | (op.direction.isReverse($1) ? 1 << $1 : 0) });
        static constexpr bool coupled = \(isCoupled);
        static APUS_INLINE value clip() { return \(CDialect.float(op.clip, compute)); }
        static APUS_INLINE value activate(int direction, int which, value x) {
      \(cases.joined())    return x;
        }
      };

      """
  }
}

/// A product of matrices whose result keeps the type that sums are computed in.
private struct WideProduct: TensorOperation {
  let name = "matmul"
  let attributes: Attributes = [:]

  init() {}
  init(name: String, attributes: Attributes) throws(GraphError) {}

  func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    [TensorType(x[0].dtype == .f64 ? .f64 : .f32, [x[0].shape[0], x[1].shape[1]])]
  }

  func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] { try MatMul().reference(x) }
}

extension GateActivation {
  /// The activation of `x` in C.
  fileprivate func text(_ dtype: DType) -> String {
    let (a, b) = (CDialect.float(alpha, dtype), CDialect.float(beta, dtype))
    let (zero, one) = (CDialect.float(0, dtype), CDialect.float(1, dtype))
    switch kind {
    case .sigmoid, .tanh, .relu, .softplus: return "apus_\(kind.rawValue)_\(dtype)(x)"
    case .softsign: return "x / (\(one) + apus_abs_\(dtype)(x))"
    case .affine: return "\(a) * x + \(b)"
    case .elu: return "x >= \(zero) ? x : \(a) * apus_expm1_\(dtype)(x)"
    case .leakyRelu: return "x >= \(zero) ? x : \(a) * x"
    case .thresholdedRelu: return "x > \(a) ? x : \(zero)"
    case .scaledTanh: return "\(a) * apus_tanh_\(dtype)(\(b) * x)"
    case .hardSigmoid:
      return "apus_min_\(dtype)(\(one), apus_max_\(dtype)(\(zero), \(a) * x + \(b)))"
    }
  }
}
