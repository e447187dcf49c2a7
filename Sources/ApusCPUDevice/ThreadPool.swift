package import ApusRuntime
import CApusHost
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How kernels are called: buffers, integer arguments, block, number of blocks, the thread's scratch.
typealias KernelEntry =
  @convention(c) (
    UnsafePointer<UnsafeMutableRawPointer?>, UnsafePointer<Int64>, Int64, Int64, UnsafeMutableRawPointer?
  ) -> Void

/// Threads that share the blocks of one launch at a time with the thread that launches.
///
/// Blocks are claimed from one counter of unclaimed blocks, in pieces that shrink as it falls. Whoever succeeds in
/// lowering the counter owns those blocks of the launch in force, whichever that is, so a thread that wakes late does no
/// harm. A launch that finds the pool taken by another thread runs on its caller alone.
///
/// Callers count as threads: of the pool's own only so many work beside them that there are no more than its number in all.
package final class ThreadPool: Sendable {
  package let threadCount: Int
  private let shared: SharedState
  private let threads: [pthread_t]

  /// - Parameter isPinned: whether each thread that is started stays on a processor of its own.
  package init(threadCount: Int, isPinned: Bool = false) {
    self.threadCount = min(max(threadCount, 1), 1024)
    let shared = SharedState(threadCount: self.threadCount)
    self.shared = shared
    var threads: [pthread_t] = []
    for index in 1..<max(self.threadCount, 1) {
      if let thread = Self.start(shared, index, isPinned) { threads.append(thread) }
    }
    self.threads = threads
  }

  deinit {
    shared.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  private struct Key: Hashable {
    var threadCount: Int
    var isPinned: Bool
  }

  private struct Entry {
    weak var pool: ThreadPool?
  }

  private static let pools = Mutex<[Key: Entry]>([:])

  /// The one pool of this size in the process: devices beside each other do not have twice the threads.
  package static func shared(threadCount: Int, isPinned: Bool) -> ThreadPool {
    let key = Key(threadCount: threadCount, isPinned: isPinned)
    return pools.withLock { pools in
      if let pool = pools[key]?.pool { return pool }
      let pool = ThreadPool(threadCount: threadCount, isPinned: isPinned)
      pools[key] = Entry(pool: pool)
      return pool
    }
  }

  /// Runs all blocks of a launch and returns when they are done.
  package func run(_ launch: DeviceLaunch) {
    shared.enter()
    defer { shared.leave() }
    if launch.blocks > 1, threads.count > 0, launch.blocks < SharedState.blockLimit, shared.take() {
      shared.run(launch)
      shared.release()
    } else {
      SharedState.run(launch, blocks: 0..<launch.blocks, thread: 0)
    }
  }

  /// Starts a worker; nil when the system refuses, and the pool works with fewer.
  private static func start(_ shared: SharedState, _ index: Int, _ isPinned: Bool) -> pthread_t? {
    let worker = Unmanaged.passRetained(Worker(shared: shared, index: index, isPinned: isPinned))
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let code = pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          guard let argument else { return nil }
        #endif
        let worker = Unmanaged<Worker>.fromOpaque(argument).takeRetainedValue()
        apus_name_thread("apus-\(worker.index)")
        if worker.isPinned { apus_pin_thread(Int32(clamping: worker.index)) }
        worker.shared.work(worker.index)
        return nil
      }, worker.toOpaque())
    if code != 0 {
      worker.release()
      return nil
    }
    return thread
  }
}

private final class Worker {
  let shared: SharedState
  let index: Int
  let isPinned: Bool

  init(shared: SharedState, index: Int, isPinned: Bool) {
    self.shared = shared
    self.index = index
    self.isPinned = isPinned
  }
}

/// What the threads of a pool share. Each word that is written often has a cache line of its own.
private final class SharedState: @unchecked Sendable {
  static let blockLimit = 1 << 40
  /// How often a thread looks for work before it sleeps: some tens of microseconds.
  static let spinLimit = 2000
  private static let lineSize = 128

  private let threadCount: Int
  private let memory: UnsafeMutableRawPointer
  /// Blocks of the launch in force that nobody has claimed.
  private let unclaimed: UnsafeMutablePointer<Atomic<Int>>
  /// Blocks of the launch in force that are done.
  private let done: UnsafeMutablePointer<Atomic<Int>>
  /// Changes when sleepers are to wake.
  private let alarm: UnsafeMutablePointer<Atomic<UInt32>>
  private let sleepers: UnsafeMutablePointer<Atomic<Int>>
  /// 1 while the launching thread sleeps until the last block is done.
  private let callerSleeps: UnsafeMutablePointer<Atomic<UInt32>>
  private let isTaken: UnsafeMutablePointer<Atomic<Bool>>
  private let isStopping: UnsafeMutablePointer<Atomic<Bool>>
  /// Threads that are in a launch of theirs.
  private let callers: UnsafeMutablePointer<Atomic<Int>>
  /// The launch in force; written only when no block is claimed or unclaimed.
  private let job: UnsafeMutablePointer<DeviceLaunch?>

  init(threadCount: Int) {
    self.threadCount = threadCount
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 9 * Self.lineSize, alignment: Self.lineSize)
    self.memory = memory
    func place<Value: ~Copyable>(_ line: Int, _ type: Value.Type) -> UnsafeMutablePointer<Value> {
      (memory + line * SharedState.lineSize).bindMemory(to: type, capacity: 1)
    }
    unclaimed = place(0, Atomic<Int>.self)
    done = place(1, Atomic<Int>.self)
    alarm = place(2, Atomic<UInt32>.self)
    sleepers = place(3, Atomic<Int>.self)
    callerSleeps = place(4, Atomic<UInt32>.self)
    isTaken = place(5, Atomic<Bool>.self)
    isStopping = place(6, Atomic<Bool>.self)
    job = place(7, DeviceLaunch?.self)
    callers = place(8, Atomic<Int>.self)
    unclaimed.initialize(to: Atomic(0))
    done.initialize(to: Atomic(0))
    alarm.initialize(to: Atomic(0))
    sleepers.initialize(to: Atomic(0))
    callerSleeps.initialize(to: Atomic(0))
    isTaken.initialize(to: Atomic(false))
    isStopping.initialize(to: Atomic(false))
    job.initialize(to: nil)
    callers.initialize(to: Atomic(0))
  }

  deinit { memory.deallocate() }

  func enter() { callers.pointee.add(1, ordering: .sequentiallyConsistent) }

  func leave() { callers.pointee.subtract(1, ordering: .relaxed) }

  /// How many of the pool's own threads may work beside the callers.
  private var spareThreads: Int { threadCount - callers.pointee.load(ordering: .relaxed) }

  func take() -> Bool {
    isTaken.pointee.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
  }

  func release() { isTaken.pointee.store(false, ordering: .releasing) }

  func stop() {
    isStopping.pointee.store(true, ordering: .sequentiallyConsistent)
    alarm.pointee.add(1, ordering: .sequentiallyConsistent)
    apus_wake(Self.word(alarm), .max)
  }

  private static func word(_ pointer: UnsafeMutablePointer<Atomic<UInt32>>) -> UnsafeMutablePointer<UInt32> {
    UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: UInt32.self)
  }

  static func run(_ launch: DeviceLaunch, blocks: Range<Int>, thread: Int) {
    let entry = unsafeBitCast(launch.function.handle, to: KernelEntry.self)
    let scratch = launch.scratch.map { $0 + thread * launch.scratchStride }
    for block in blocks {
      entry(launch.buffers, launch.parameters, Int64(block), Int64(launch.blocks), scratch)
    }
  }

  // MARK: The launching thread

  func run(_ launch: DeviceLaunch) {
    job.pointee = launch
    done.pointee.store(0, ordering: .relaxed)
    unclaimed.pointee.store(launch.blocks, ordering: .sequentiallyConsistent)
    let (asleep, spare) = (sleepers.pointee.load(ordering: .sequentiallyConsistent), spareThreads)
    if asleep > 0, spare > 0 {
      alarm.pointee.add(1, ordering: .sequentiallyConsistent)
      // Where only some may work, nobody knows which of them would wake.
      apus_wake(Self.word(alarm), spare < threadCount - 1 ? .max : Int32(clamping: min(asleep, launch.blocks - 1)))
    }
    while claimAndRun(thread: 0) {}
    waitUntilDone(launch.blocks)
  }

  private func waitUntilDone(_ blocks: Int) {
    for _ in 0..<Self.spinLimit {
      if done.pointee.load(ordering: .acquiring) == blocks { return }
      apus_pause()
    }
    while true {
      callerSleeps.pointee.store(1, ordering: .sequentiallyConsistent)
      if done.pointee.load(ordering: .sequentiallyConsistent) == blocks { break }
      apus_wait(Self.word(callerSleeps), 1)
    }
    callerSleeps.pointee.store(0, ordering: .relaxed)
  }

  // MARK: All threads

  /// Takes some of the unclaimed blocks and runs them; false when there are none.
  private func claimAndRun(thread: Int) -> Bool {
    var left = unclaimed.pointee.load(ordering: .acquiring)
    while left > 0, thread <= spareThreads || thread == 0 {
      let count = max(1, left / (2 * threadCount))
      let result = unclaimed.pointee.weakCompareExchange(
        expected: left, desired: left - count, ordering: .acquiring)
      if !result.exchanged {
        left = result.original
        continue
      }
      // The claim keeps the launch in force until these blocks are counted as done.
      guard let launch = job.pointee else { return false }
      let first = launch.blocks - left
      Self.run(launch, blocks: first..<first + count, thread: thread)
      let total = done.pointee.add(count, ordering: .sequentiallyConsistent).newValue
      if total == launch.blocks, callerSleeps.pointee.load(ordering: .sequentiallyConsistent) == 1 {
        callerSleeps.pointee.store(0, ordering: .sequentiallyConsistent)
        apus_wake(Self.word(callerSleeps), 1)
      }
      return true
    }
    return false
  }

  /// A worker's life: claim, spin, sleep.
  func work(_ thread: Int) {
    while !isStopping.pointee.load(ordering: .relaxed) {
      if claimAndRun(thread: thread) { continue }
      if !findsWorkSoon(thread) { sleep(thread) }
    }
  }

  private func findsWorkSoon(_ thread: Int) -> Bool {
    for _ in 0..<Self.spinLimit {
      if unclaimed.pointee.load(ordering: .relaxed) > 0 { return thread <= spareThreads }
      apus_pause()
    }
    return false
  }

  private func sleep(_ thread: Int) {
    let seen = alarm.pointee.load(ordering: .sequentiallyConsistent)
    sleepers.pointee.add(1, ordering: .sequentiallyConsistent)
    if unclaimed.pointee.load(ordering: .sequentiallyConsistent) == 0 || thread > spareThreads,
      !isStopping.pointee.load(ordering: .sequentiallyConsistent)
    {
      apus_wait(Self.word(alarm), seen)
    }
    sleepers.pointee.subtract(1, ordering: .sequentiallyConsistent)
  }
}
