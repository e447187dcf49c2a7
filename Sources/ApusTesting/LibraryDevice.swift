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
  package init(versions: [Library: Int] = [.cublasLt: 130_002]) { self.versions = versions }

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
    (call as? HostProduct)?.run(buffers)
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.copy(from: source, to: target, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    inner.fill(target, with: byte, byteCount: byteCount)
  }

  func synchronize() throws(DeviceError) { try inner.synchronize() }
}

/// What ``LibraryMatmul`` says, element by element.
private final class HostProduct: DeviceCall {
  private let matmul: LibraryMatmul
  private let sizes: [Int]

  init(_ matmul: LibraryMatmul, _ sizes: [Int]) {
    self.matmul = matmul
    self.sizes = sizes
  }

  func run(_ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    guard let counts = matmul.elementCounts(sizes) else { return }
    let dtypes = matmul.bufferDTypes
    let operands = counts.indices.dropLast().map { index -> [Double] in
      buffers[index].map { base -> [Double] in
        let storage = HostStorage(borrowing: base, byteCount: counts[index] * dtypes[index].byteCount, owner: self)
        return HostTensor(dtype: dtypes[index], shape: [counts[index]], storage: storage).doubles
      } ?? []
    }
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
    guard let target = buffers[counts.count - 1] else { return }
    HostTensor(matmul.resultDType, [result.count], doubles: result).withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { target.copyMemory(from: base, byteCount: bytes.count) }
    }
  }

  private func activated(_ value: Double) -> Double {
    switch matmul.activation {
    case .none: value
    case .relu: max(value, 0)
    case .geluTanh: ScalarFunction.gelu_tanh.evaluate(value)
    }
  }
}
