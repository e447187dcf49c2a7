import ApusCore
import CApusCUDA

/// A descriptor of cuDNN's graph interface, with those that it refers to.
final class CudnnDescriptor: @unchecked Sendable {
  let handle: apus_cudnn_descriptor
  private var kept: [CudnnDescriptor] = []

  /// - Parameter kind: a value of cudnnBackendDescriptorType_t.
  init(_ kind: Int) throws(DeviceError) {
    var handle: apus_cudnn_descriptor?
    try Cudnn.check(apus_cudnn_descriptor_create(Int32(kind), &handle), "making descriptor \(kind)")
    guard let handle else { throw DeviceError("APUS-D-0020", "the library gave no descriptor", place: "cuDNN") }
    self.handle = handle
  }

  deinit { _ = apus_cudnn_descriptor_destroy(handle) }

  func finalize(_ what: String) throws(DeviceError) { try Cudnn.check(apus_cudnn_descriptor_finalize(handle), what) }

  private func set(_ attribute: Int, _ type: Int, _ count: Int, _ bytes: UnsafeRawBufferPointer) -> Int32 {
    apus_cudnn_descriptor_set(handle, Int32(attribute), Int32(type), Int64(count), bytes.baseAddress)
  }

  func set(_ attribute: Int, _ values: [Int64]) throws(DeviceError) {
    let result = values.withUnsafeBytes { set(attribute, APUS_CUDNN_TYPE_I64, values.count, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  /// Sets a value of an enumeration.
  func set(_ attribute: Int, _ type: Int, _ value: Int) throws(DeviceError) {
    let result = withUnsafeBytes(of: Int32(value)) { set(attribute, type, 1, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  func set(_ attribute: Int, _ value: Bool) throws(DeviceError) {
    let result = withUnsafeBytes(of: UInt8(value ? 1 : 0)) { set(attribute, APUS_CUDNN_TYPE_BOOL, 1, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  func set(_ attribute: Int, _ value: Float) throws(DeviceError) {
    let result = withUnsafeBytes(of: value) { set(attribute, APUS_CUDNN_TYPE_F32, 1, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  func set(_ attribute: Int, _ addresses: [UnsafeMutableRawPointer?]) throws(DeviceError) {
    let result = addresses.withUnsafeBytes { set(attribute, APUS_CUDNN_TYPE_POINTER, addresses.count, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  func set(_ attribute: Int, handle: apus_cudnn) throws(DeviceError) {
    let result = withUnsafeBytes(of: handle) { set(attribute, APUS_CUDNN_TYPE_HANDLE, 1, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  func set(_ attribute: Int, _ descriptors: [CudnnDescriptor]) throws(DeviceError) {
    kept += descriptors
    let handles = descriptors.map(\.handle)
    let result = handles.withUnsafeBytes { set(attribute, APUS_CUDNN_TYPE_DESCRIPTOR, handles.count, $0) }
    try Cudnn.check(result, "setting attribute \(attribute)")
  }

  /// Descriptors that the attribute holds, at most `limit`.
  func descriptors(_ attribute: Int, kind: Int, limit: Int) throws(DeviceError) -> [CudnnDescriptor] {
    var count: Int64 = 0
    let type = Int32(APUS_CUDNN_TYPE_DESCRIPTOR)
    var found: [CudnnDescriptor] = []
    for _ in 0..<limit { found.append(try CudnnDescriptor(kind)) }
    var handles = found.map { Optional($0.handle) }
    let result = apus_cudnn_descriptor_get(handle, Int32(attribute), type, Int64(limit), &count, &handles)
    try Cudnn.check(result, "reading attribute \(attribute)")
    return Array(found.prefix(Int(clamping: count)))
  }

  func int(_ attribute: Int) throws(DeviceError) -> Int {
    var (count, value): (Int64, Int64) = (0, 0)
    try Cudnn.check(
      apus_cudnn_descriptor_get(handle, Int32(attribute), Int32(APUS_CUDNN_TYPE_I64), 1, &count, &value),
      "reading attribute \(attribute)")
    return Int(value)
  }

  /// Values of an enumeration that the attribute holds, at most `limit`.
  func values(_ attribute: Int, _ type: Int, limit: Int) throws(DeviceError) -> [Int32] {
    var count: Int64 = 0
    var values = [Int32](repeating: 0, count: limit)
    try Cudnn.check(
      apus_cudnn_descriptor_get(handle, Int32(attribute), Int32(type), Int64(limit), &count, &values),
      "reading attribute \(attribute)")
    return Array(values.prefix(Int(clamping: count)))
  }
}
