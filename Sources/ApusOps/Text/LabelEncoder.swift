package import ApusCore
package import ApusGraph

/// Replaces each element by the value that stands for it in a table.
///
/// - Shapes: x any → the same.
/// - Types: x integer, float or string as the keys; the result has the dtype `to`.
/// - Numerics: keys are compared exactly, NaN matches NaN; elements that are no key become `default`.
/// - Source: ONNX-ML LabelEncoder-4.
package struct LabelEncoder: TensorOperation {
  /// A list of keys or values: numbers or strings.
  package enum Labels: Hashable, Sendable {
    case integers([Int])
    case floats([Double])
    case strings([String])

    init(_ attributes: Attributes, _ name: String) throws(GraphError) {
      switch attributes[name] {
      case .strings(let values)?: self = .strings(values)
      case .floats(let values)?: self = .floats(values)
      default: self = .integers(try attributes.ints(name))
      }
    }

    var attribute: Attribute {
      switch self {
      case .integers(let values): .ints(values)
      case .floats(let values): .floats(values)
      case .strings(let values): .strings(values)
      }
    }

    var count: Int {
      switch self {
      case .integers(let values): values.count
      case .floats(let values): values.count
      case .strings(let values): values.count
      }
    }
  }

  package let keys: Labels
  /// The values, then the default.
  package let values: Labels
  package let to: DType

  /// - Parameter values: One value per key, then the default.
  package init(keys: Labels, values: Labels, to: DType) {
    self.keys = keys
    self.values = values
    self.to = to
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    keys = try Labels(attributes, "keys")
    values = try Labels(attributes, "values")
    to = try attributes.dtype("to")
  }

  package var name: String { "label_encoder" }
  package var attributes: Attributes {
    ["keys": keys.attribute, "values": values.attribute, "to": .dtype(to)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    guard values.count == keys.count + 1 else {
      throw shapeError("APUS-S-0206", "\(keys.count) keys need \(keys.count + 1) values, found \(values.count)")
    }
    let isString = if case .strings = keys { true } else { false }
    let givesString = if case .strings = values { true } else { false }
    guard isString == (x[0].dtype == .string), givesString == (to == .string) else {
      throw shapeError("APUS-S-0204", "x is \(x[0]) and the result \(to), which keys or values do not fit")
    }
    return [x[0].with(dtype: to)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let rows: [Int]
    switch keys {
    case .integers(let keys): rows = Self.rows(keys, x[0].ints)
    case .floats(let keys):
      // Bit patterns, so that NaN finds NaN; the keys have x's precision.
      let exact = HostTensor(x[0].dtype, [keys.count], doubles: keys).doubles
      rows = Self.rows(exact.map(Self.pattern), x[0].doubles.map(Self.pattern))
    case .strings(let keys): rows = Self.rows(keys, x[0].strings)
    }
    switch values {
    case .integers(let values): return [HostTensor(to, x[0].shape, int64s: rows.map { Int64(values[$0]) })]
    case .floats(let values): return [HostTensor(to, x[0].shape, doubles: rows.map { values[$0] })]
    case .strings(let values): return [HostTensor(strings: rows.map { values[$0] }, shape: x[0].shape)]
    }
  }

  private static func pattern(_ value: Double) -> UInt64 {
    value.isNaN ? Double.nan.bitPattern : (value == 0 ? 0 : value.bitPattern)
  }

  /// The row of each element's key; the row after the last for none.
  private static func rows<Key: Hashable>(_ keys: [Key], _ elements: [Key]) -> [Int] {
    var row: [Key: Int] = [:]
    for (index, key) in keys.enumerated() { row[key] = index }
    return elements.map { row[$0] ?? keys.count }
  }

  package static var samples: [Sample] {
    [
      Sample(LabelEncoder(keys: .integers([1, 3, 2]), values: .floats([0.5, -1, 7, 9]), to: .f32), "i64[5]"),
      Sample(
        LabelEncoder(keys: .strings(["a", "b"]), values: .integers([4, 5, -1]), to: .i64), "string[3]",
        constants: [0: HostTensor(strings: ["b", "c", "a"], shape: [3])]),
    ]
  }
}
