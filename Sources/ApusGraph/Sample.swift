package import ApusCore

/// A use of an operation that every implementation of it is tested on, with random operands.
package struct Sample: Sendable {
  package let op: any Operation
  /// Types of the operands in the graph's text form, `f32[B, 4]`.
  package let operands: [String]
  /// Sizes that each symbol is tried with.
  package let symbols: [String: ClosedRange<Int>]
  /// Range that an operand's random values are drawn from, by operand; −2 … 2 for floats and −9 … 9 for integers where
  /// absent.
  package let values: [Int: ClosedRange<Double>]
  /// Operands that are these tensors and not random.
  package let constants: [Int: HostTensor]
  /// Largest difference accepted, relative to the larger of 1 and the reference's magnitude; it is what f32 gives, and
  /// is widened for narrower types.
  package let tolerance: Double

  package init(
    _ op: any Operation, operands: [String], where symbols: [String: ClosedRange<Int>] = [:],
    values: [Int: ClosedRange<Double>] = [:], constants: [Int: HostTensor] = [:], tolerance: Double = 1e-5
  ) {
    self.op = op
    self.operands = operands
    self.symbols = symbols
    self.values = values
    self.constants = constants
    self.tolerance = tolerance
  }

  package init(
    _ op: any Operation, _ operands: String..., where symbols: [String: ClosedRange<Int>] = [:],
    values: [Int: ClosedRange<Double>] = [:], constants: [Int: HostTensor] = [:], tolerance: Double = 1e-5
  ) {
    self.init(op, operands: operands, where: symbols, values: values, constants: constants, tolerance: tolerance)
  }
}
