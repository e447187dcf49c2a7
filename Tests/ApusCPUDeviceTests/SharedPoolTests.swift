#if os(Linux)
  import ApusRuntime
  import Glibc
  import Synchronization
  import Testing

  @testable import ApusCPUDevice

  /// Several callers of one pool.
  @Suite struct SharedPoolTests {
    /// Notes in buffer 0 which thread ran each block, and takes a little.
    private static let note: KernelEntry = { buffers, _, block, _, _ in
      buffers[0]?.assumingMemoryBound(to: UInt.self)[Int(block)] = UInt(pthread_self())
      usleep(200)
    }

    /// Says in word 0 of buffer 0 that it has begun, and stays until word 1 is not 0.
    private static let stay: KernelEntry = { buffers, _, _, _, _ in
      guard let words = buffers[0]?.assumingMemoryBound(to: Atomic<Int>.self) else { return }
      words[0].store(1, ordering: .releasing)
      while words[1].load(ordering: .acquiring) == 0 { usleep(100) }
    }

    private static func run(_ entry: KernelEntry, on pool: ThreadPool, blocks: Int, _ memory: UnsafeMutableRawPointer) {
      withUnsafePointer(to: Optional(memory)) { buffers in
        withUnsafePointer(to: Int64(0)) { parameters in
          pool.run(
            DeviceLaunch(
              function: DeviceFunction(handle: unsafeBitCast(entry, to: UnsafeMutableRawPointer.self)),
              buffers: buffers,
              bufferCount: 1, parameters: parameters, parameterCount: 1, blocks: blocks, scratch: nil, scratchStride: 0)
          )
        }
      }
    }

    /// The threads that ran the blocks of a launch.
    private static func workers(of pool: ThreadPool) -> Set<UInt> {
      var threads = [UInt](repeating: 0, count: 64)
      threads.withUnsafeMutableBytes { if let base = $0.baseAddress { run(note, on: pool, blocks: 64, base) } }
      return Set(threads)
    }

    private static func helps(_ pool: ThreadPool) -> Bool {
      let end = ContinuousClock.now + .seconds(20)
      while ContinuousClock.now < end { if workers(of: pool).count == 2 { return true } }
      return false
    }

    /// Two callers on two threads are enough: no third works beside them, and it comes back when one of them is done.
    @Test func threadsRestWhereCallersAreEnough() {
      let pool = ThreadPool(threadCount: 2)
      #expect(Self.helps(pool))
      let words = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 2)
      for index in 0..<2 { (words + index).initialize(to: Atomic(0)) }
      defer { words.deallocate() }
      nonisolated(unsafe) let memory = UnsafeMutableRawPointer(words)
      let other = Caller { Self.run(Self.stay, on: pool, blocks: 1, memory) }
      while words[0].load(ordering: .acquiring) == 0 { usleep(100) }
      for _ in 0..<20 { #expect(Self.workers(of: pool) == [UInt(pthread_self())]) }
      words[1].store(1, ordering: .releasing)
      other.wait()
      #expect(Self.helps(pool))
    }

    @Test func devicesShareTheirThreads() {
      let first = CPUDevice(threads: 3)
      #expect(first.pool === CPUDevice(threads: 3).pool)
      #expect(first.pool !== CPUDevice(threads: 4).pool)
      weak var gone: ThreadPool?
      do {
        let device = CPUDevice(threads: 37)
        gone = device.pool
        #expect(device.threadCount == 37)
      }
      #expect(gone == nil)
    }
  }

  /// A thread of its own that does one thing.
  private final class Caller {
    private let body: @Sendable () -> Void
    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
      self.body = body
      pthread_create(
        &thread, nil,
        { argument in
          guard let argument else { return nil }
          Unmanaged<Caller>.fromOpaque(argument).takeRetainedValue().body()
          return nil
        }, Unmanaged.passRetained(self).toOpaque())
    }

    func wait() { pthread_join(thread, nil) }
  }
#endif
