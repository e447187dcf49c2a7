package import ApusCore

extension DType {
  /// The element type for a number of ONNX's `TensorProto.DataType`; nil for undefined, complex and 6-bit types.
  init?(onnx code: Int) {
    guard let dtype = DType.byCode[code] else { return nil }
    self = dtype
  }

  /// The number of the element type in ONNX.
  package var onnxCode: Int? { DType.byCode.first { $0.value == self }?.key }

  private static let byCode: [Int: DType] = [
    1: .f32, 2: .u8, 3: .i8, 4: .u16, 5: .i16, 6: .i32, 7: .i64, 8: .string, 9: .bool, 10: .f16, 11: .f64, 12: .u32,
    13: .u64, 16: .bf16, 17: .f8e4m3fn, 18: .f8e4m3fnuz, 19: .f8e5m2, 20: .f8e5m2fnuz, 21: .u4, 22: .i4, 23: .f4e2m1,
    24: .f8e8m0, 25: .u2, 26: .i2,
  ]

  /// The element type, or an error that names what is not supported.
  static func onnx(_ code: Int) throws(ImportError) -> DType {
    if let dtype = DType(onnx: code) { return dtype }
    let names = [0: "undefined", 14: "complex64", 15: "complex128", 27: "float6e2m3", 28: "float6e3m2"]
    throw ImportError("APUS-I-0020", "element type \(names[code] ?? "number \(code)") is not supported")
  }
}
