package import ApusCore
package import ApusPlan
package import ApusRuntime
import ApusKernel
import Synchronization

/// A device that computes library calls on the host, in f64, and leaves what launches would write as it is.
package final class LibraryDevice: Device {
  package let name = "libraries"
  private let inner = NullDevice()
  private let versions: [Library: Int]
  private let preparations = Mutex<[[Int]]>([])

  /// - Parameter versions: the libraries there are.
  package init(versions: [Library: Int] = [.cublasLt: 130_002, .cudnn: 91_400]) { self.versions = versions }

  /// The sizes that calls were made ready for, in order.
  package var preparedSizes: [[Int]] { preparations.withLock { $0 } }

  package var identity: DeviceIdentity { inner.identity }
  package var sharesHostMemory: Bool { true }
  package var memoryByteCount: Int { inner.memoryByteCount }
  package var scratchCount: Int { 1 }

  package func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int { 0 }

  package func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer { try inner.allocate(byteCount: byteCount) }

  package func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? { nil }

  package func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try inner.load(image) }

  package func version(of library: Library) throws(DeviceError) -> Int {
    guard let version = versions[library] else {
      throw DeviceError("APUS-D-0019", "\(library.name) is not here", place: "nowhere")
    }
    return version
  }

  package func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall {
    preparations.withLock { $0.append(sizes) }
    switch call.operation {
    case .matmul(let matmul): return HostProduct(matmul, sizes)
    case .convolution(let convolution): return HostConvolution(convolution, sizes)
    }
  }

  package func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    LibraryStream(try inner.makeStream(priority: priority))
  }
}

private final class LibraryStream: DeviceStream {
  private let inner: any DeviceStream

  init(_ inner: any DeviceStream) { self.inner = inner }

  func launch(_ launch: DeviceLaunch) { inner.launch(launch) }

  func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    (call as? any HostCall)?.run(buffers)
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.copy(from: source, to: target, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    inner.fill(target, with: byte, byteCount: byteCount)
  }

  func synchronize() throws(DeviceError) { try inner.synchronize() }
}

private protocol HostCall: DeviceCall {
  func run(_ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>)
}

extension HostCall {
  /// The elements of buffers but the result and working memory.
  func operands(
    _ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>, _ counts: [Int], _ dtypes: [DType]
  ) -> [[Double]] {
    counts.indices.dropLast().map { index -> [Double] in
      buffers[index].map { base -> [Double] in
        let storage = HostStorage(borrowing: base, byteCount: counts[index] * dtypes[index].byteCount, owner: self)
        return HostTensor(dtype: dtypes[index], shape: [counts[index]], storage: storage).doubles
      } ?? []
    }
  }

  func store(_ result: [Double], _ dtype: DType, to target: UnsafeMutableRawPointer?) {
    HostTensor(dtype, [result.count], doubles: result).withUnsafeBytes { bytes in
      if let target, let base = bytes.baseAddress { target.copyMemory(from: base, byteCount: bytes.count) }
    }
  }
}

/// What ``LibraryConvolution`` says, element by element.
private final class HostConvolution: HostCall {
  private let convolution: LibraryConvolution
  private let sizes: [Int]

  init(_ convolution: LibraryConvolution, _ sizes: [Int]) {
    self.convolution = convolution
    self.sizes = sizes
  }

  func run(_ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    guard let counts = convolution.elementCounts(sizes) else { return }
    let operands = operands(buffers, counts, convolution.bufferDTypes)
    let rank = convolution.rank
    let (image, places) = (Array(sizes[1...rank]), Array(sizes[(1 + rank)...]))
    let channels = convolution.channels / convolution.groups
    var result: [Double] = []
    for index in 0..<counts[counts.count - 1] {
      let output = index % convolution.outputs
      let group = output / (convolution.outputs / convolution.groups)
      let place = Self.coordinates(index / convolution.outputs, in: [sizes[0]] + places)
      var sum = 0.0
      for tap in 0..<convolution.kernel.reduce(1, *) {
        let offset = Self.coordinates(tap, in: convolution.kernel)
        var pixel = place[0]
        var isInside = true
        for axis in 0..<rank {
          let at =
            place[1 + axis] * convolution.strides[axis] + offset[axis] * convolution.dilations[axis]
            - convolution.pads[axis]
          isInside = isInside && (0..<image[axis]).contains(at)
          pixel = pixel * image[axis] + at
        }
        guard isInside else { continue }
        let weights = (output * convolution.kernel.reduce(1, *) + tap) * channels
        let start = pixel * convolution.channels + group * channels
        for channel in 0..<channels { sum += operands[0][start + channel] * operands[1][weights + channel] }
      }
      if convolution.hasAddend { sum += operands[2][index] }
      if convolution.hasBias { sum += operands[operands.count - 1][output] }
      result.append(convolution.isRectified ? max(sum, 0) : sum)
    }
    store(result, convolution.dtype, to: buffers[counts.count - 1])
  }

  private static func coordinates(_ index: Int, in shape: [Int]) -> [Int] {
    var (rest, found) = (index, [Int]())
    for size in shape.reversed() {
      found.append(rest % size)
      rest /= size
    }
    return found.reversed()
  }
}

/// What ``LibraryMatmul`` says, element by element.
private final class HostProduct: HostCall {
  private let matmul: LibraryMatmul
  private let sizes: [Int]

  init(_ matmul: LibraryMatmul, _ sizes: [Int]) {
    self.matmul = matmul
    self.sizes = sizes
  }

  func run(_ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    guard let counts = matmul.elementCounts(sizes) else { return }
    let operands = operands(buffers, counts, matmul.bufferDTypes)
    let (batches, rows, columns, depth) = (sizes[0], sizes[1], sizes[2], sizes[3])
    var result: [Double] = []
    for batch in 0..<batches {
      for row in 0..<rows {
        for column in 0..<columns {
          var sum = 0.0
          for k in 0..<depth {
            let left = batch * sizes[4] + row * depth + k
            let right = batch * sizes[5] + (matmul.isTransposed ? column * depth + k : k * columns + column)
            sum += operands[0][left] * operands[1][right]
          }
          if matmul.hasAddend { sum += operands[2][result.count] }
          if matmul.hasBias { sum += operands[operands.count - 1][column] }
          result.append(activated(sum))
        }
      }
    }
    store(result, matmul.resultDType, to: buffers[counts.count - 1])
  }

  private func activated(_ value: Double) -> Double {
    switch matmul.activation {
    case .none: value
    case .relu: max(value, 0)
    case .geluTanh: ScalarFunction.gelu_tanh.evaluate(value)
    }
  }
}
