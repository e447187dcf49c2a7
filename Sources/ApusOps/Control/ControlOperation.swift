package import ApusCore
package import ApusGraph

/// An operation with bodies whose results may have sizes that only running tells.
///
/// Whoever builds one asks ``openSizeCount(_:)`` of the operation with its bodies and no symbols, makes that many fresh
/// symbols and gives them as the attribute `symbols`.
package protocol ControlOperation: ApusGraph.Operation {
  /// Symbols for the results' open sizes, in the order of results and axes.
  var symbols: [Dim] { get set }

  /// The results' types, with sizes asked of `sizes` where they are open.
  func types(_ x: [ValueType], _ sizes: inout ResultSizes) throws(ShapeError) -> [ValueType]
}

extension ControlOperation {
  package var boundSymbols: [Symbol] { Self.symbols(symbols) }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    var sizes = ResultSizes(symbols, of: self)
    return try types(x, &sizes)
  }

  /// How many symbols the results need.
  package func openSizeCount(_ x: [ValueType]) throws(ShapeError) -> Int {
    var sizes = ResultSizes(nil, of: self)
    _ = try types(x, &sizes)
    return sizes.count
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
}
