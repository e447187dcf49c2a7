public import ApusCore

/// Computes one host call: operands and the sizes in force to results.
public typealias HostFunction =
  @Sendable (_ operands: [HostValue], _ symbol: (String) -> Int?) throws -> [HostValue]

/// Makes the host's implementations of operations, for steps that no kernel computes.
///
/// The runtime knows no operations itself; whoever links the catalogue hands it in.
public protocol HostOperations: Sendable {
  /// The implementation of an operation with attributes in graph text, for operands and results of the types given.
  /// Sizes in the attributes are evaluated at each call.
  func make(
    operation: String, attributes: String, operands: [ValueType], results: [ValueType]
  ) throws -> HostFunction
}
