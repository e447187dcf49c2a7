package import ApusCore

/// How far two tensors are apart, on the scale of a sample's tolerance.
package enum Closeness {
  /// The largest difference relative to the larger of 1 and the expected magnitude; infinite where types, shapes, integers
  /// or strings differ.
  package static func difference(_ found: HostTensor, _ expected: HostTensor) -> Double {
    guard found.dtype == expected.dtype, found.shape == expected.shape else { return .infinity }
    if expected.dtype == .string { return found.strings == expected.strings ? 0 : .infinity }
    if !expected.dtype.isFloat { return found.int64s == expected.int64s ? 0 : .infinity }
    var largest = 0.0
    for (a, b) in zip(found.doubles, expected.doubles) where a != b && !(a.isNaN && b.isNaN) {
      let difference = (a - b).magnitude / max(1, b.magnitude)
      largest = max(largest, difference.isNaN ? .infinity : difference)
    }
    return largest
  }

  /// What is accepted for a type when `f32` is accepted for f32: for types of 16 bits four roundings to the type (2^-11 each for
  /// f16, 2^-8 for bf16), since results are rounded once and steps on the way may be.
  package static func tolerance(_ dtype: DType, _ f32: Double) -> Double {
    switch dtype {
    case .f64: 1e-9
    case .f32: f32
    case .f16: max(f32, 2e-3)
    case .bf16: max(f32, 1.6e-2)
    default: dtype.isFloat ? 0.3 : 0
    }
  }

  /// What differs between two values beyond the tolerance, or nil.
  package static func complaint(_ found: HostValue, _ expected: HostValue, f32 tolerance: Double) -> String? {
    switch (found, expected) {
    case (.tensor(let a), .tensor(let b)):
      let difference = difference(a, b)
      if difference <= Self.tolerance(b.dtype, tolerance) { return nil }
      return "differs by \(difference): \(brief(a)), expected \(brief(b))"
    case (.sequence(let a, _), .sequence(let b, _)):
      if a.count != b.count { return "\(a.count) elements, expected \(b.count)" }
      return zip(a, b).lazy.compactMap { complaint($0, $1, f32: tolerance) }.first
    case (.optional(let a?, _), .optional(let b?, _)): return complaint(a, b, f32: tolerance)
    case (.optional(nil, _), .optional(nil, _)): return nil
    default: return "\(found.type), expected \(expected.type)"
    }
  }

  private static func brief(_ tensor: HostTensor) -> String {
    if tensor.dtype == .string { return "\(tensor.type) \(tensor.strings.prefix(12))" }
    if tensor.dtype.isFloat { return "\(tensor.type) \(tensor.doubles.prefix(12))" }
    return "\(tensor.type) \(tensor.int64s.prefix(12))"
  }
}
