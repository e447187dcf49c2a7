import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusTesting
import Testing

/// Every sample of every operation: inference, reference, lowered form, known sizes and text agree.
@Suite struct SampleTests {
  static func samples(_ name: String) -> [Sample] {
    Catalogue.standard.type(name)?.samples.filter { $0.op.name == name } ?? []
  }

  /// `fail` has no result to compare.
  @Test(arguments: Catalogue.standard.names.filter { $0 != "fail" }) func samplesExist(_ name: String) {
    #expect(!Self.samples(name).isEmpty, "\(name) has no samples")
  }

  @Test(arguments: Catalogue.standard.names) func resultsHaveTheInferredTypes(_ name: String) throws {
    try SampleCase.forEach(name) { sample in
      let inferred = try sample.op.infer(sample.types)
      let general = try sample.symbolicOp.infer(sample.symbolicTypes)
      #expect(inferred.count == sample.results.count && general.count == sample.results.count, "\(sample)")
      for (index, result) in sample.results.enumerated() {
        guard let tensor = result.tensor else { continue }
        for type in [inferred[index], general[index]].compactMap(\.tensor) {
          #expect(type.dtype == tensor.dtype && type.rank == tensor.rank, "\(sample): \(type), \(tensor.type)")
          for (dim, size) in zip(type.shape, tensor.shape) {
            if let value = dim.evaluate({ sample.sizes[$0] }) { #expect(value == size, "\(sample): \(dim)") }
          }
        }
      }
    }
  }

  @Test(arguments: Catalogue.standard.names) func loweredFormsAgreeWithTheReference(_ name: String) throws {
    try SampleCase.forEach(name) { sample in
      guard sample.op.isPure else { return }
      try sample.checkLowering(sample.op, sample.types, isFlat: false)
      try sample.checkLowering(sample.symbolicOp, sample.symbolicTypes, isFlat: false)
      try sample.checkLowering(sample.symbolicOp, sample.symbolicTypes, isFlat: true)
    }
  }

  @Test(arguments: Catalogue.standard.names) func knownSizesAgreeWithTheReference(_ name: String) throws {
    try SampleCase.forEach(name) { sample in
      let types = sample.types.compactMap(\.tensor)
      guard types.count == sample.types.count else { return }
      let known = sample.operands.map { value -> [Dim]? in
        guard let tensor = value.tensor, tensor.dtype.isInteger || tensor.dtype == .bool else { return nil }
        return tensor.ints.map { Dim($0) }
      }
      guard let results = sample.op.dims(known, types) else { return }
      for (dims, result) in zip(results, sample.results) {
        guard let dims, let tensor = result.tensor else { continue }
        #expect(dims == tensor.ints.map { Dim($0) }, "\(sample)")
      }
    }
  }

  @Test(arguments: Catalogue.standard.names) func graphsOfOneNodeRoundTripAndRun(_ name: String) throws {
    try SampleCase.forEach(name) { sample in
      var graph = Graph()
      let inputs = sample.symbolicTypes.enumerated().map { graph.addInput("x\($0.offset)", $0.element) }
      graph.outputs = try graph.add(sample.symbolicOp, inputs, name: "the node")
      try Verifier.verify(graph)
      let printed = GraphText(graph)
      let parsed = try GraphText.parse(printed.text, catalogue: .standard, constants: printed.constants)
      try Verifier.verify(parsed)
      #expect(GraphText(parsed).text == printed.text)
      let results = try Interpreter.run(parsed, inputs: sample.operands, symbols: sample.sizes)
      guard sample.op.isPure else { return }
      for (result, expected) in zip(results, sample.results) {
        guard let result = result.tensor, let expected = expected.tensor else { continue }
        #expect(Closeness.difference(result, expected) == 0, "\(sample)")
      }
    }
  }
}
