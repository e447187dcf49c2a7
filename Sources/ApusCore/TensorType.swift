/// A shape whose dims may be symbolic.
public typealias Shape = [Dim]

/// Element type and shape of a tensor. Tensors are dense and row-major.
public struct TensorType: Hashable, Sendable {
  public var dtype: DType
  public var shape: Shape

  public init(_ dtype: DType, _ shape: Shape) {
    self.dtype = dtype
    self.shape = shape
  }

  public init(_ dtype: DType, sizes: [Int]) { self.init(dtype, sizes.map { Dim($0) }) }

  public var rank: Int { shape.count }
  public var elementCount: Dim { Dim.product(shape) }
  public var byteCount: Dim { elementCount * Dim(dtype.byteCount) }

  /// The sizes when all are known.
  public var constantShape: [Int]? {
    let sizes = shape.compactMap(\.constantValue)
    return sizes.count == shape.count ? sizes : nil
  }

  public func with(dtype: DType) -> TensorType { TensorType(dtype, shape) }
  public func with(shape: Shape) -> TensorType { TensorType(dtype, shape) }
}

extension TensorType: CustomStringConvertible {
  /// `f32[N, 3, 224, 224]`.
  public var description: String { "\(dtype)[\(shape.map(\.description).joined(separator: ", "))]" }
}

/// The type of a graph value: a tensor, or ONNX's containers of values.
public indirect enum ValueType: Hashable, Sendable {
  case tensor(TensorType)
  case sequence(ValueType)
  case optional(ValueType)

  public var tensor: TensorType? {
    if case .tensor(let type) = self { type } else { nil }
  }
}

extension ValueType: CustomStringConvertible {
  public var description: String {
    switch self {
    case .tensor(let type): type.description
    case .sequence(let element): "seq<\(element)>"
    case .optional(let element): "opt<\(element)>"
    }
  }
}
