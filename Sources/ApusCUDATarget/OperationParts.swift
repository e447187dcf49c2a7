import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel

/// A C type that says how elements are read, combined and stored.
struct CombiningText {
  let name: String
  let dtype: DType
  var reduction: Reduction = .sum

  var text: String {
    let compute = ExprArena.computeType(dtype)
    let (value, raw) = (CDialect.scalar(compute), CDialect.storage(dtype))
    return """
      struct \(name) {
        typedef \(value) value;
        typedef \(raw) raw;
        static APUS_INLINE value identity() { return \(CDialect.identity(reduction, compute)); }
        static APUS_INLINE value combine(value a, value b) { return (value)(\(CDialect.combine(reduction, "a", "b", compute))); }
        static APUS_INLINE value load(raw x) { const raw b[1] = {x}; return \(CDialect.load("b", "0", dtype)); }
        static APUS_INLINE raw store(value x) { return \(CDialect.stored("x", dtype)); }
      };

      """
  }
}

/// Loops that an operation needs beside its texts.
struct GeneratedLoops: Sendable {
  let code: @Sendable (Kernel) -> KernelCode

  /// Emits loops that store every element of a type.
  ///
  /// - Parameters:
  ///   - operands: slots with the types they are seen as.
  ///   - element: the result from the operands.
  func emit(
    _ node: Node, _ type: TensorType, into slot: Int, _ operands: [(slot: Int, type: TensorType)],
    _ builder: inout StepBuilder, _ element: ([Operand]) -> Operand
  ) {
    let arena = ExprArena()
    let arguments = operands.map { Operand(argument: arena.addBuffer($0.type.dtype), $0.type) }
    let output = arena.addBuffer(type.dtype)
    let kernel = Kernel.storing(
      [(element(arguments), output)], type, shape: type.shape, index: { $0 }, arena)
    builder.launch(
      code(kernel), buffers: operands.map(\.slot) + [slot], name: node.op.name,
      sources: node.name.isEmpty ? [] : [node.name], tactic: "loops", work: type.elementCount)
  }
}
