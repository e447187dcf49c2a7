public import ApusCore

/// The ways there are to compute what a few neighbouring steps compute, for a tuner to choose among.
public struct Alternatives: Sendable, Hashable {
  /// What is computed, as a graph of its own in graph text. Constants stand for those of the model.
  public var region: String
  /// Types of the region's constants `c0`, `c1`, ….
  public var constants: [TensorType]
  /// Names of the ways, the one that the compiler's cost model prefers first.
  public var tactics: [String]
  /// The one that the steps are.
  public var chosen: String
  /// How many steps compute the region, the one that holds this included.
  public var stepCount: Int

  public init(region: String, constants: [TensorType], tactics: [String], chosen: String, stepCount: Int) {
    self.region = region
    self.constants = constants
    self.tactics = tactics
    self.chosen = chosen
    self.stepCount = stepCount
  }
}
