/// Where each of a set of buffers lies in one block of memory so that buffers that live at the same time do not overlap.
struct ArenaPlan: Sendable {
  /// Byte offset of each request, in the order given.
  var offsets: [Int]
  var byteCount: Int
  /// The most bytes that live at one time: no plan can be smaller.
  var lowerBound: Int
  /// The bytes needed if nothing shared memory.
  var sum: Int
}

/// A buffer to be placed: size, and the steps between which it lives, both included.
struct ArenaRequest: Sendable {
  var byteCount: Int
  var firstStep: Int
  var lastStep: Int
  /// The same where steps run on several lanes, for all buffers or for none: then listing says nothing of what comes first.
  var span: LaneSpan?

  func overlaps(_ other: ArenaRequest) -> Bool {
    if let span, let others = other.span { return !span.isBefore(others) && !others.isBefore(span) }
    return firstStep <= other.lastStep && other.firstStep <= lastStep
  }
}

/// Places buffers greedily: the largest first, each in the smallest gap that fits among those alive at the same time.
///
/// - Source: "greedy by size", Pisarchyk & Lee, Efficient Memory Management for Deep Neural Net Inference, 2020.
enum ArenaPlanner {
  static let alignment = 64

  /// Sizes are rounded up to the alignment; their sum must not overflow.
  static func plan(_ requests: [ArenaRequest]) -> ArenaPlan {
    let requests = requests.map { request in
      var aligned = request
      aligned.byteCount = (request.byteCount + alignment - 1) / alignment * alignment
      return aligned
    }
    let order = requests.indices.sorted { a, b in
      (requests[a].byteCount, requests[b].firstStep, b) > (requests[b].byteCount, requests[a].firstStep, a)
    }
    var offsets = [Int](repeating: 0, count: requests.count)
    /// Requests placed so far, by offset.
    var placed: [Int] = []
    var end = 0
    for index in order where requests[index].byteCount > 0 {
      offsets[index] = place(requests[index], among: placed, requests, offsets)
      end = max(end, offsets[index] + requests[index].byteCount)
      let position = insertionPoint(offsets[index], placed, offsets)
      placed.insert(index, at: position)
    }
    return ArenaPlan(
      offsets: offsets, byteCount: end, lowerBound: lowerBound(requests),
      sum: requests.reduce(0) { $0 + $1.byteCount })
  }

  private static func place(
    _ request: ArenaRequest, among placed: [Int], _ requests: [ArenaRequest], _ offsets: [Int]
  ) -> Int {
    var best: (offset: Int, gap: Int)?
    var end = 0
    for other in placed where requests[other].overlaps(request) {
      let gap = offsets[other] - end
      if gap >= request.byteCount, gap < best?.gap ?? .max { best = (end, gap) }
      end = max(end, offsets[other] + requests[other].byteCount)
    }
    return best?.offset ?? end
  }

  private static func insertionPoint(_ offset: Int, _ placed: [Int], _ offsets: [Int]) -> Int {
    var low = 0
    var high = placed.count
    while low < high {
      let middle = (low + high) / 2
      if offsets[placed[middle]] < offset { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private static func lowerBound(_ requests: [ArenaRequest]) -> Int {
    var changes: [(step: Int, delta: Int)] = []
    for request in requests where request.byteCount > 0 {
      changes.append((request.firstStep, request.byteCount))
      changes.append((request.lastStep + 1, -request.byteCount))
    }
    changes.sort { ($0.step, $0.delta) < ($1.step, $1.delta) }
    var live = 0
    var most = 0
    for change in changes {
      live += change.delta
      most = max(most, live)
    }
    return most
  }
}
