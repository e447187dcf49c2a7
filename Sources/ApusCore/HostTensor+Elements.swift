/// Element access by value, for references and tests: slow and clear. Compiled kernels never come here.
extension HostTensor {
  /// All elements as doubles: exact for floats and for integers below 2^53; bool gives 0 or 1.
  public var doubles: [Double] {
    switch dtype {
    case .f64: elements(as: Double.self)
    case .f32: elements(as: Float.self).map(Double.init)
    case .f16: elements(as: Float16.self).map(Double.init)
    case .bf16: elements(as: UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) }
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f4e2m1:
      elements(as: UInt8.self).map { dtype.smallFloat?.decode(UInt16($0)) ?? .nan }
    case .f8e8m0: elements(as: UInt8.self).map(PowerOfTwoScale.decode)
    case .u64: elements(as: UInt64.self).map { Double($0) }
    default: int64s.map(Double.init)
    }
  }

  /// All elements as 64-bit integers; u64 keeps its bit pattern, floats truncate towards zero (saturating).
  public var int64s: [Int64] {
    switch dtype {
    case .i64: elements(as: Int64.self)
    case .u64: elements(as: Int64.self)
    case .i32: elements(as: Int32.self).map(Int64.init)
    case .u32: elements(as: UInt32.self).map(Int64.init)
    case .i16: elements(as: Int16.self).map(Int64.init)
    case .u16: elements(as: UInt16.self).map(Int64.init)
    case .i8, .i4, .i2: elements(as: Int8.self).map(Int64.init)
    case .u8, .u4, .u2: elements(as: UInt8.self).map(Int64.init)
    case .bool: elements(as: UInt8.self).map { $0 == 0 ? 0 : 1 }
    case .string: []
    default: doubles.map { $0.isNaN ? 0 : Int64(exactly: $0.rounded(.towardZero)) ?? ($0 > 0 ? .max : .min) }
    }
  }

  public var ints: [Int] { int64s.map { Int(truncatingIfNeeded: $0) } }

  /// Makes a tensor by rounding doubles to `dtype`: floats to nearest even, integers truncate and wrap, strings are empty.
  public init(_ dtype: DType, _ shape: [Int], doubles: [Double]) {
    switch dtype {
    case .f64: self.init(dtype, shape, elements: doubles)
    case .f32: self.init(dtype, shape, elements: doubles.map { Float($0) })
    case .f16: self.init(dtype, shape, elements: doubles.map { Float16($0) })
    case .bf16: self.init(dtype, shape, elements: doubles.map { SmallFloat.bf16.encode($0, saturating: false) })
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f4e2m1:
      self.init(
        dtype, shape,
        elements: doubles.map { UInt8(truncatingIfNeeded: dtype.smallFloat?.encode($0, saturating: true) ?? 0) })
    case .f8e8m0: self.init(dtype, shape, elements: doubles.map(PowerOfTwoScale.encode))
    case .bool: self.init(dtype, shape, elements: doubles.map { $0 == 0 ? UInt8(0) : 1 })
    case .u64:
      self.init(
        dtype, shape,
        elements: doubles.map { value -> UInt64 in
          let whole = value.rounded(.towardZero)
          return UInt64(exactly: whole) ?? UInt64(bitPattern: Int64(exactly: whole) ?? (whole > 0 ? -1 : 0))
        })
    default:
      self.init(
        dtype, shape,
        int64s: doubles.map { value in
          value.isNaN ? 0 : Int64(exactly: value.rounded(.towardZero)) ?? (value > 0 ? .max : .min)
        })
    }
  }

  /// Makes a tensor from integers: integer types wrap, floats round, bool is `≠ 0`, strings are empty.
  public init(_ dtype: DType, _ shape: [Int], int64s values: [Int64]) {
    switch dtype {
    case .string: self.init(strings: values.map { _ in "" }, shape: shape)
    case .i64, .u64: self.init(dtype, shape, elements: values)
    case .i32: self.init(dtype, shape, elements: values.map { Int32(truncatingIfNeeded: $0) })
    case .u32: self.init(dtype, shape, elements: values.map { UInt32(truncatingIfNeeded: $0) })
    case .i16, .u16: self.init(dtype, shape, elements: values.map { Int16(truncatingIfNeeded: $0) })
    case .i8, .u8: self.init(dtype, shape, elements: values.map { Int8(truncatingIfNeeded: $0) })
    case .i4: self.init(dtype, shape, elements: values.map { (Int8(truncatingIfNeeded: $0) << 4) >> 4 })
    case .u4: self.init(dtype, shape, elements: values.map { UInt8(truncatingIfNeeded: $0) & 15 })
    case .i2: self.init(dtype, shape, elements: values.map { (Int8(truncatingIfNeeded: $0) << 6) >> 6 })
    case .u2: self.init(dtype, shape, elements: values.map { UInt8(truncatingIfNeeded: $0) & 3 })
    case .bool: self.init(dtype, shape, elements: values.map { $0 == 0 ? UInt8(0) : 1 })
    default: self.init(dtype, shape, doubles: values.map(Double.init))
    }
  }

  public init(scalar value: Double, _ dtype: DType) { self.init(dtype, [], doubles: [value]) }

  /// Row-major strides in elements.
  public var strides: [Int] { HostTensor.strides(of: shape) }

  public static func strides(of shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() {
      strides[axis] = saturatingMultiply(strides[axis + 1], shape[axis + 1])
    }
    return strides
  }

  /// Gathers elements by linear index; a negative index gives zero bytes (or the empty string).
  package func gathering(_ indices: [Int], shape: [Int]) -> HostTensor {
    if dtype == .string { return HostTensor(strings: indices.map { $0 < 0 ? "" : strings[$0] }, shape: shape) }
    let width = dtype.byteCount
    return withUnsafeBytes { source in
      HostTensor(dtype, shape) { target in
        switch width {
        case 4: Self.gather(UInt32.self, source, target, indices)
        case 8: Self.gather(UInt64.self, source, target, indices)
        case 2: Self.gather(UInt16.self, source, target, indices)
        default: Self.gather(UInt8.self, source, target, indices)
        }
      }
    }
  }

  private static func gather<Element: BitwiseCopyable>(
    _ type: Element.Type, _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, _ indices: [Int]
  ) {
    let from = source.bindMemory(to: type)
    let to = target.bindMemory(to: type)
    for (position, index) in indices.enumerated() where index >= 0 { to[position] = from[index] }
  }
}
