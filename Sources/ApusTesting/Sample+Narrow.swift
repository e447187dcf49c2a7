package import ApusCore
package import ApusGraph
import ApusOps

extension Sample {
  /// The sample with operands of another float type in place of f32; nil where it has none, or where the operation takes no
  /// such operands.
  package func narrowed(to dtype: DType) -> Sample? {
    let narrow = operands.map { $0.replacing("f32[", with: "\(dtype)[") }
    if narrow == operands { return nil }
    let sample = Sample(
      op, operands: narrow, where: symbols, values: values,
      constants: constants.mapValues { $0.dtype == .f32 ? HostTensor(dtype, $0.shape, doubles: $0.doubles) : $0 },
      tolerance: tolerance)
    guard let shown = try? SampleCase(sample, trial: 1, seed: 0), (try? shown.op.infer(shown.types)) != nil else {
      return nil
    }
    return sample
  }
}

extension SampleGroup {
  /// The samples with operands of another float type in place of f32; those that have none of f32 are left out.
  ///
  /// - Parameters:
  ///   - refused: called with the name of each operation that has operands of f32 and takes no others.
  ///   - takesNoDouble: called with the name of each operation whose reference cannot compute in f64.
  package func narrowed(
    to dtype: DType, refused: (String) -> Void, takesNoDouble: (String) -> Void
  ) -> SampleGroup {
    SampleGroup(
      samples: samples.compactMap { name, sample in
        if let narrow = sample.narrowed(to: dtype) {
          if sample.narrowed(to: .f64) == nil { takesNoDouble(name) }
          return (name, narrow)
        }
        if sample.operands.contains(where: { $0.contains("f32[") }) { refused(name) }
        return nil
      })
  }
}

extension SampleCase {
  /// What the operation's reference gives for the operands in f64, rounded once to the types of the results. Where an operation
  /// takes no f64, its reference for the operands as they are.
  static func resultsInDouble(
    _ op: any Operation, _ operands: [HostValue]
  ) throws -> [HostValue] {
    let types = try op.infer(operands.map(\.type))
    guard let wide = try? op.evaluate(operands.map { converted($0, to: .f64) }) else {
      return try op.reference(operands)
    }
    return zip(wide, types).map { value, type in
      guard let dtype = elementType(type), dtype.isFloat else { return value }
      return converted(value, to: dtype)
    }
  }

  private static func elementType(_ type: ValueType) -> DType? {
    switch type {
    case .tensor(let tensor): tensor.dtype
    case .sequence(let element), .optional(let element): elementType(element)
    }
  }

  /// A value whose tensors of floats are of another type.
  private static func converted(_ value: HostValue, to dtype: DType) -> HostValue {
    switch value {
    case .tensor(let tensor) where tensor.dtype.isFloat && tensor.dtype != dtype:
      .tensor(HostTensor(dtype, tensor.shape, doubles: tensor.doubles))
    case .tensor: value
    case .sequence(let values, let element):
      .sequence(values.map { converted($0, to: dtype) }, element: converted(element, to: dtype))
    case .optional(let inner, let element):
      .optional(inner.map { converted($0, to: dtype) }, element: converted(element, to: dtype))
    }
  }

  private static func converted(_ type: ValueType, to dtype: DType) -> ValueType {
    switch type {
    case .tensor(let tensor): .tensor(tensor.dtype.isFloat ? TensorType(dtype, tensor.shape) : tensor)
    case .sequence(let element): .sequence(converted(element, to: dtype))
    case .optional(let element): .optional(converted(element, to: dtype))
    }
  }
}
