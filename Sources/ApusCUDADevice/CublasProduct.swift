import ApusCore
import ApusPlan
import CApusCUDA

/// cuBLASLt's state for one GPU.
final class CublasLt: @unchecked Sendable {
  let handle: apus_cublaslt
  private let context: CUDAContext

  init(_ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    var handle: apus_cublaslt?
    try Self.check(apus_cublaslt_create(&handle), "starting the library")
    guard let handle else { throw DeviceError("APUS-D-0020", "the library gave no handle", place: "cuBLASLt") }
    self.handle = handle
  }

  deinit {
    context.enter()
    _ = apus_cublaslt_destroy(handle)
  }

  static func check(_ result: Int32, _ what: @autoclosure () -> String) throws(DeviceError) {
    if result == APUS_CUBLASLT_SUCCESS { return }
    let words = apus_cublaslt_text(result).map { String(cString: $0) } ?? "error"
    throw DeviceError("APUS-D-0020", "\(what()) failed: \(words) (\(result))", place: "cuBLASLt")
  }
}

/// A product of matrices by cuBLASLt, which counts in columns: it is asked for the transposed result, right times left.
final class CublasProduct: CUDACall {
  private let library: CublasLt
  private let matmul: LibraryMatmul
  private let descriptors: Descriptors?
  private var suggestion = apus_cublaslt_suggestion()
  /// What the descriptors name as bias now.
  private var bias: UnsafeMutableRawPointer?

  /// Bytes that all addresses but that of working memory are multiples of.
  private static let alignment = 16
  /// Bytes that the address of working memory is made a multiple of.
  private static let workspaceAlignment = 256

  /// - Parameters:
  ///   - sizes: as ``LibraryMatmul`` has them, not negative.
  ///   - rank: which of the library's suggestions to take, the last where there are fewer.
  /// - Throws: ``DeviceError`` `APUS-D-0020` when the library has none.
  init(_ matmul: LibraryMatmul, rank: Int, _ sizes: [Int], workspaceByteCount: Int, _ library: CublasLt)
    throws(DeviceError)
  {
    self.library = library
    self.matmul = matmul
    if sizes[..<3].contains(0) {
      descriptors = nil
      return
    }
    let descriptors = try Descriptors(matmul, sizes)
    self.descriptors = descriptors
    // Only the alignment of this address counts until there is one.
    if matmul.hasBias { try descriptors.setBias(UnsafeMutableRawPointer(bitPattern: Self.alignment)) }
    let preference = try Preference(
      workspaceByteCount: max(workspaceByteCount - Self.workspaceAlignment, 0), alignment: Self.alignment)
    var suggestions = [apus_cublaslt_suggestion](repeating: apus_cublaslt_suggestion(), count: rank + 1)
    var count: Int32 = 0
    let what = "a product of \(sizes) in \(matmul.dtype)"
    try CublasLt.check(
      apus_cublaslt_suggest(
        library.handle, descriptors.product, descriptors.right, descriptors.left, descriptors.result,
        descriptors.result, preference.handle, Int32(suggestions.count), &suggestions, &count), "looking for \(what)")
    guard let last = suggestions.prefix(Int(count)).last(where: { $0.state == APUS_CUBLASLT_SUCCESS }) else {
      throw DeviceError("APUS-D-0020", "the library has no kernel for \(what)", place: "cuBLASLt")
    }
    suggestion = last
  }

  func queue(
    on stream: apus_cuda_stream, _ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>
  ) throws(DeviceError) {
    guard let descriptors else { return }
    let count = matmul.bufferCount
    for index in 0..<count - 1 where Int(bitPattern: buffers[index]) % Self.alignment != 0 {
      throw DeviceError(
        "APUS-D-0020", "buffer \(index) of a product begins at no multiple of \(Self.alignment) bytes",
        place: "cuBLASLt", hint: "Bind memory that is aligned to 64 bytes.")
    }
    let result = buffers[count - 2]
    let addend = matmul.hasAddend ? buffers[2] : result
    if matmul.hasBias, bias != buffers[count - 3] {
      try descriptors.setBias(buffers[count - 3])
      bias = buffers[count - 3]
    }
    let workspace = buffers[count - 1].map { $0.alignedUp(toMultipleOf: Self.workspaceAlignment) }
    try withScalars { alpha, beta throws(DeviceError) in
      try CublasLt.check(
        apus_cublaslt_multiply(
          library.handle, descriptors.product, alpha, buffers[1], descriptors.right, buffers[0], descriptors.left, beta,
          addend, descriptors.result, result, descriptors.result, &suggestion.algorithm, workspace,
          suggestion.workspace_bytes, stream), "queueing a product")
    }
  }

  /// Calls `body` with the factors of the product and of the addend, in the type of sums.
  private func withScalars(
    _ body: (UnsafeRawPointer, UnsafeRawPointer) throws(DeviceError) -> Void
  ) throws(DeviceError) {
    if matmul.dtype == .f64 {
      var scalars = (1.0, matmul.hasAddend ? 1.0 : 0.0)
      try body(&scalars.0, &scalars.1)
    } else {
      var scalars: (Float, Float) = (1, matmul.hasAddend ? 1 : 0)
      try body(&scalars.0, &scalars.1)
    }
  }
}

/// What is asked of cuBLASLt: the operation and its three matrices.
private final class Descriptors {
  private(set) var product: apus_cublaslt_product?
  private(set) var left: apus_cublaslt_layout?
  private(set) var right: apus_cublaslt_layout?
  private(set) var result: apus_cublaslt_layout?

  init(_ matmul: LibraryMatmul, _ sizes: [Int]) throws(DeviceError) {
    let (batches, rows, columns, depth) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let isDouble = matmul.dtype == .f64
    try CublasLt.check(
      apus_cublaslt_product_create(
        &product, Int32(isDouble ? APUS_CUBLASLT_COMPUTE_F64 : APUS_CUBLASLT_COMPUTE_F32),
        Int32(isDouble ? APUS_CUBLASLT_F64 : APUS_CUBLASLT_F32)), "describing a product")
    if matmul.isTransposed { try set(APUS_CUBLASLT_PRODUCT_TRANSPOSES_LEFT, Int32(APUS_CUBLASLT_TRANSPOSED)) }
    try set(APUS_CUBLASLT_PRODUCT_EPILOGUE, Self.epilogue(matmul))
    let (type, resultType) = (Self.type(matmul.dtype), Self.type(matmul.resultDType))
    right =
      matmul.isTransposed
      ? try Self.layout(type, depth, columns, batches, sizes[5])
      : try Self.layout(type, columns, depth, batches, sizes[5])
    left = try Self.layout(type, depth, rows, batches, sizes[4])
    result = try Self.layout(resultType, columns, rows, batches, rows * columns)
  }

  deinit {
    if let product { _ = apus_cublaslt_product_destroy(product) }
    for layout in [left, right, result] { if let layout { _ = apus_cublaslt_layout_destroy(layout) } }
  }

  func setBias(_ address: UnsafeMutableRawPointer?) throws(DeviceError) { try set(APUS_CUBLASLT_PRODUCT_BIAS, address) }

  private func set<Value: BitwiseCopyable>(_ attribute: Int, _ value: Value) throws(DeviceError) {
    let result = withUnsafeBytes(of: value) {
      apus_cublaslt_product_set(product, Int32(attribute), $0.baseAddress, $0.count)
    }
    try CublasLt.check(result, "describing a product")
  }

  private static func epilogue(_ matmul: LibraryMatmul) -> Int32 {
    let activation =
      switch matmul.activation {
      case .none: 0
      case .relu: APUS_CUBLASLT_EPILOGUE_RELU
      case .geluTanh: APUS_CUBLASLT_EPILOGUE_GELU
      }
    let epilogue = activation | (matmul.hasBias ? APUS_CUBLASLT_EPILOGUE_BIAS : 0)
    return Int32(epilogue == 0 ? APUS_CUBLASLT_EPILOGUE_NONE : epilogue)
  }

  private static func type(_ dtype: DType) -> Int32 {
    switch dtype {
    case .f16: Int32(APUS_CUBLASLT_F16)
    case .bf16: Int32(APUS_CUBLASLT_BF16)
    case .f64: Int32(APUS_CUBLASLT_F64)
    default: Int32(APUS_CUBLASLT_F32)
    }
  }

  /// A packed matrix of columns, with elements from one batch to the next.
  private static func layout(
    _ type: Int32, _ rows: Int, _ columns: Int, _ batches: Int, _ stride: Int
  ) throws(DeviceError) -> apus_cublaslt_layout? {
    var layout: apus_cublaslt_layout?
    try CublasLt.check(
      apus_cublaslt_layout_create(&layout, type, UInt64(rows), UInt64(columns), Int64(max(rows, 1))),
      "describing a matrix of \(columns) rows and \(rows) columns")
    if batches == 1 { return layout }
    var (count, elements) = (Int32(clamping: batches), Int64(stride))
    do throws(DeviceError) {
      try CublasLt.check(
        apus_cublaslt_layout_set(layout, Int32(APUS_CUBLASLT_LAYOUT_BATCHES), &count, 4), "describing batches")
      try CublasLt.check(
        apus_cublaslt_layout_set(layout, Int32(APUS_CUBLASLT_LAYOUT_BATCH_STRIDE), &elements, 8), "describing batches")
    } catch {
      _ = apus_cublaslt_layout_destroy(layout)
      throw error
    }
    return layout
  }
}

/// What suggestions of cuBLASLt must keep to.
private final class Preference {
  private(set) var handle: apus_cublaslt_preference?

  init(workspaceByteCount: Int, alignment: Int) throws(DeviceError) {
    try CublasLt.check(apus_cublaslt_preference_create(&handle), "describing preferences")
    var byteCount = workspaceByteCount
    try CublasLt.check(
      apus_cublaslt_preference_set(handle, Int32(APUS_CUBLASLT_PREFERENCE_WORKSPACE), &byteCount, 8),
      "limiting working memory")
    var least = UInt32(alignment)
    for matrix in APUS_CUBLASLT_PREFERENCE_ALIGNMENT_A...APUS_CUBLASLT_PREFERENCE_ALIGNMENT_D {
      try CublasLt.check(apus_cublaslt_preference_set(handle, Int32(matrix), &least, 4), "limiting alignment")
    }
  }

  deinit { if let handle { _ = apus_cublaslt_preference_destroy(handle) } }
}
