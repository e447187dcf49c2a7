import ApusCore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// Turns the tensors of an ONNX file into host tensors.
///
/// Nothing is allocated before the number of data bytes is known to fit the declared dims.
struct TensorReader {
  let external: ExternalData

  init(external: ExternalData = ExternalData(folder: nil)) { self.external = external }

  func tensor(_ proto: Onnx_TensorProto) throws(ImportError) -> HostTensor {
    do { return try read(proto) } catch { throw proto.name.isEmpty ? error : error.at("tensor '\(proto.name)'") }
  }

  private func read(_ proto: Onnx_TensorProto) throws(ImportError) -> HostTensor {
    let dtype = try DType.onnx(Int(proto.dataType))
    let shape = try TensorReader.shape(proto.dims)
    let count = shape.reduce(1, saturatingMultiply)
    if proto.hasSegment { throw TensorReader.error("segmented tensors are not supported") }
    if dtype == .string { return try strings(proto, shape, count) }
    let bitCount = saturatingMultiply(count, dtype.bitWidth)
    guard bitCount < Int.max - 8 else { throw TensorReader.error("dims \(shape) are absurdly large") }
    let packedCount = (bitCount + 7) / 8
    if proto.dataLocation == .external {
      let slice = try external.slice(proto.externalData, byteCount: packedCount)
      try check(slice.bytes.count, packedCount, "bytes of external data", dtype, shape)
      if dtype.bitWidth >= 8, dtype != .bool, let base = slice.bytes.baseAddress, Int(bitPattern: base) % 64 == 0 {
        let storage = HostStorage(borrowing: base, byteCount: packedCount, owner: slice.file)
        return HostTensor(dtype: dtype, shape: shape, storage: storage)
      }
      return TensorReader.unpack(slice.bytes, dtype, shape)
    }
    if proto.hasRawData {
      try check(proto.rawData.count, packedCount, "bytes of raw data", dtype, shape)
      return proto.rawData.withUnsafeBytes { TensorReader.unpack($0, dtype, shape) }
    }
    return try typed(proto, dtype, shape, count, packedCount)
  }

  static func shape(_ dims: [Int64]) throws(ImportError) -> [Int] {
    for dim in dims where dim < 0 { throw error("dim \(dim) is negative") }
    if dims.count > 64 { throw error("rank \(dims.count) is larger than 64") }
    return dims.map { Int($0) }
  }

  private static func error(_ message: String) -> ImportError { ImportError("APUS-I-0020", message) }

  private func check(
    _ found: Int, _ expected: Int, _ what: String, _ dtype: DType, _ shape: [Int]
  ) throws(ImportError) {
    if found == expected { return }
    throw ImportError(
      "APUS-I-0020", "\(TensorType(dtype, sizes: shape)) needs \(expected) \(what), found \(found)",
      hint: "The file is truncated or corrupt.")
  }

  private func strings(_ proto: Onnx_TensorProto, _ shape: [Int], _ count: Int) throws(ImportError) -> HostTensor {
    try check(proto.stringData.count, count, "strings", .string, shape)
    return HostTensor(strings: proto.stringData.map { String(decoding: $0, as: UTF8.self) }, shape: shape)
  }

  private func typed(
    _ proto: Onnx_TensorProto, _ dtype: DType, _ shape: [Int], _ count: Int, _ packedCount: Int
  ) throws(ImportError) -> HostTensor {
    switch dtype {
    case .f32:
      try check(proto.floatData.count, count, "elements of float_data", dtype, shape)
      return HostTensor(dtype, shape, elements: proto.floatData)
    case .f64:
      try check(proto.doubleData.count, count, "elements of double_data", dtype, shape)
      return HostTensor(dtype, shape, elements: proto.doubleData)
    case .i64:
      try check(proto.int64Data.count, count, "elements of int64_data", dtype, shape)
      return HostTensor(dtype, shape, elements: proto.int64Data)
    case .u64, .u32:
      try check(proto.uint64Data.count, count, "elements of uint64_data", dtype, shape)
      if dtype == .u64 { return HostTensor(dtype, shape, elements: proto.uint64Data) }
      return HostTensor(dtype, shape, elements: proto.uint64Data.map { UInt32(truncatingIfNeeded: $0) })
    default:
      let data = proto.int32Data
      if dtype.bitWidth >= 8 {
        try check(data.count, count, "elements of int32_data", dtype, shape)
        switch dtype.byteCount {
        case 4: return HostTensor(dtype, shape, elements: data)
        case 2: return HostTensor(dtype, shape, elements: data.map { UInt16(truncatingIfNeeded: $0) })
        default: break
        }
      } else {
        try check(data.count, packedCount, "elements of int32_data", dtype, shape)
      }
      let bytes = data.map { UInt8(truncatingIfNeeded: $0) }
      return bytes.withUnsafeBytes { TensorReader.unpack($0, dtype, shape) }
    }
  }

  /// Copies packed bytes into one element per byte where the type is narrower than a byte, lowest bits first.
  private static func unpack(_ bytes: UnsafeRawBufferPointer, _ dtype: DType, _ shape: [Int]) -> HostTensor {
    HostTensor(dtype, shape) { target in
      if dtype == .bool {
        for (index, byte) in bytes.enumerated() { target[index] = byte == 0 ? 0 : 1 }
        return
      }
      if dtype.bitWidth >= 8 {
        target.copyMemory(from: bytes)
        return
      }
      let width = dtype.bitWidth
      let perByte = 8 / width
      let unused = UInt8(8 - width)
      for index in 0..<target.count {
        let shifted = (bytes[index / perByte] >> UInt8(index % perByte * width)) << unused
        let extended = UInt8(bitPattern: Int8(bitPattern: shifted) >> Int8(unused))
        target[index] = dtype.isSignedInteger ? extended : shifted >> unused
      }
    }
  }

  /// Largest tensor, in bytes, that a sparse tensor may fill.
  private static let denseLimit = 1 << 32

  /// The dense form of a sparse tensor.
  func tensor(_ proto: Onnx_SparseTensorProto) throws(ImportError) -> HostTensor {
    let values = try tensor(proto.values)
    let indices = try tensor(proto.indices)
    let shape = try TensorReader.shape(proto.dims)
    let count = shape.reduce(1, saturatingMultiply)
    let known = values.elementCount
    guard values.rank == 1, indices.dtype == .i64, values.dtype != .string,
      indices.shape == [known] || indices.shape == [known, shape.count]
    else {
      throw TensorReader.error("sparse tensor: values \(values.type) and indices \(indices.type) do not fit \(shape)")
    }
    if saturatingMultiply(count, values.dtype.byteCount) > TensorReader.denseLimit {
      throw TensorReader.error("sparse tensor: the dense form \(shape) is too large")
    }
    let strides = HostTensor.strides(of: shape)
    let coordinates = indices.ints
    var source = [Int](repeating: -1, count: count)
    for entry in 0..<known {
      var position = 0
      if indices.rank == 1 {
        position = coordinates[entry]
      } else {
        for axis in shape.indices {
          let coordinate = coordinates[entry * shape.count + axis]
          guard coordinate >= 0, coordinate < shape[axis] else {
            throw TensorReader.error("sparse tensor: index \(coordinate) is outside dim \(shape[axis])")
          }
          position += coordinate * strides[axis]
        }
      }
      guard position >= 0, position < count else {
        throw TensorReader.error("sparse tensor: index \(position) is outside \(count) elements")
      }
      source[position] = entry
    }
    return values.gathering(source, shape: shape)
  }
}
