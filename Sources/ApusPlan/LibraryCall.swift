public import ApusCore

/// A call of a library that comes with the device's vendor, described by what it computes.
///
/// The library chooses among its own kernels when shapes are bound: ``rank`` says which of its suggestions is taken. Working
/// memory is the last buffer, so that the arena plans it like any other.
public struct LibraryCall: Sendable, Hashable {
  public enum Operation: Sendable, Hashable {
    case matmul(LibraryMatmul)
    case convolution(LibraryConvolution)
  }

  public var operation: Operation
  /// Which of the library's suggestions for the bound sizes, 0 for the one it likes best; the last where there are fewer.
  public var rank: Int
  /// Slots in the order that the operation says.
  public var buffers: [Int]
  /// In the order that the operation says, evaluated when shapes are bound.
  public var sizes: [Dim]

  public init(_ operation: Operation, rank: Int, buffers: [Int], sizes: [Dim]) {
    self.operation = operation
    self.rank = rank
    self.buffers = buffers
    self.sizes = sizes
  }

  public var library: Library {
    switch operation {
    case .matmul: .cublasLt
    case .convolution: .cudnn
    }
  }

  /// Suggestions of a library that can be named.
  package static let rankLimit = 64
}

/// A library of a device's vendor.
public enum Library: UInt8, Sendable, Hashable, CaseIterable {
  case cublasLt
  case cudnn

  public var name: String {
    switch self {
    case .cublasLt: "cuBLASLt"
    case .cudnn: "cuDNN"
    }
  }

  /// What it is called in settings.
  package var word: String {
    switch self {
    case .cublasLt: "cublaslt"
    case .cudnn: "cudnn"
    }
  }

  /// The oldest version that has all that is called of it, in the library's own number: 120000 is 12.0.0.
  package var leastVersion: Int {
    switch self {
    case .cublasLt: 120_000
    case .cudnn: 90_000
    }
  }

  /// `13.0.2` of 130002: two digits each for minor and patch.
  package static func text(version: Int) -> String {
    "\(version / 10000).\(version / 100 % 100).\(version % 100)"
  }
}

/// `result = activation(left × right + addend + bias)` of matrices in rows, packed, one batch behind the other.
///
/// Buffers: left `[batches, rows, depth]`, right `[batches, depth, columns]` or with its axes exchanged, the addend
/// `[batches, rows, columns]` and the bias `[columns]` where there are such, the result `[batches, rows, columns]`, and working
/// memory of bytes. Sizes: batches, rows, columns, depth, then elements between neighbouring batches of left and of right, where 0
/// shares one matrix. Sums are taken in f32, in f64 of f64.
public struct LibraryMatmul: Sendable, Hashable {
  public enum Activation: UInt8, Sendable, Hashable, CaseIterable {
    case none
    case relu
    /// GELU by tanh.
    case geluTanh
  }

  /// Elements of left and right.
  public var dtype: DType
  /// Elements of all others.
  public var resultDType: DType
  /// Whether right is `[columns, depth]` in memory.
  public var isTransposed: Bool
  public var hasAddend: Bool
  public var hasBias: Bool
  public var activation: Activation

  public init(
    dtype: DType, resultDType: DType, isTransposed: Bool, hasAddend: Bool = false, hasBias: Bool = false,
    activation: Activation = .none
  ) {
    self.dtype = dtype
    self.resultDType = resultDType
    self.isTransposed = isTransposed
    self.hasAddend = hasAddend
    self.hasBias = hasBias
    self.activation = activation
  }

  public static let sizeCount = 6

  public var bufferCount: Int { 4 + (hasAddend ? 1 : 0) + (hasBias ? 1 : 0) }

  /// What each buffer's elements are, working memory last.
  package var bufferDTypes: [DType] {
    [dtype, dtype] + [DType](repeating: resultDType, count: bufferCount - 3) + [.u8]
  }

  /// Whether libraries multiply such elements.
  package var isPossible: Bool {
    switch dtype {
    case .f16, .bf16: resultDType == dtype || resultDType == .f32
    case .f32, .f64: resultDType == dtype
    default: false
    }
  }
}

extension LibraryMatmul {
  /// Elements that each buffer must have, without working memory; nil for sizes that are none.
  package func elementCounts(_ sizes: [Int]) -> [Int]? {
    guard sizes.count == Self.sizeCount, sizes.allSatisfy({ $0 >= 0 }) else { return nil }
    let (batches, rows, columns, depth) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let (left, right) = (saturatingMultiply(rows, depth), saturatingMultiply(depth, columns))
    let result = saturatingMultiply(batches, saturatingMultiply(rows, columns))
    if result == 0 { return [Int](repeating: 0, count: bufferCount - 1) }
    return [
      saturatingAdd(left, saturatingMultiply(batches - 1, sizes[4])),
      saturatingAdd(right, saturatingMultiply(batches - 1, sizes[5])),
    ] + (hasAddend ? [result] : []) + (hasBias ? [columns] : []) + [result]
  }
}

extension LibraryCall {
  /// Elements that each buffer must have for sizes that are known, without working memory; nil for sizes that are none.
  package func elementCounts(_ sizes: [Int]) -> [Int]? {
    switch operation {
    case .matmul(let matmul): matmul.elementCounts(sizes)
    case .convolution(let convolution): convolution.elementCounts(sizes)
    }
  }

  /// Positions among the buffers of those that are only read; the others are the result and working memory.
  package var readBuffers: Range<Int> { 0..<max(buffers.count - 2, 0) }
}

extension Step.Action {
  /// The slots that a launch or a library call works on; nil for other steps.
  package var buffers: [Int]? {
    switch self {
    case .launch(let launch): launch.buffers
    case .library(let call): call.buffers
    case .copy, .host, .bind, .define, .branch, .loop, .piece: nil
    }
  }
}

extension Plan {
  /// The libraries that steps call, those of pieces and bodies included.
  package var libraries: Set<Library> {
    Set(allSteps.compactMap { step in if case .library(let call) = step.action { call.library } else { nil } })
  }
}
