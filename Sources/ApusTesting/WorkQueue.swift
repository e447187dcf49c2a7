import ApusCore
import ApusGraph

/// Which lane goes on where several can: every choice is an order that their waiting allows.
package enum LaneChoice: Sendable, Hashable {
  /// The one with the least number, or the greatest.
  case first, last
  case random(seed: UInt64)
}

/// Something queued on a lane of a stream.
struct QueuedWork {
  enum Action {
    case run(() -> Void)
    case reach(point: Int)
    case wait(point: Int)
  }

  var lane: Int
  var action: Action
}

/// Work of a stream that is done as late as it may, that of its lanes in any order that their waiting allows; the timeline's turn
/// guards it.
final class WorkQueue: @unchecked Sendable {
  private enum Entry {
    case run(() -> Void)
    /// Points are used again and again: each time has a number.
    case reach(Int)
    case wait(Int)
  }

  private var work: [(lane: Int, entry: Entry)] = []
  private var done = 0
  private let choice: LaneChoice
  private var generator: RandomTensor.Generator
  private var pointNumbers: [Int: Int] = [:]
  private var isReached: [Bool] = []
  /// By lane, how many things were queued there, and how many of each other lane come before what is queued next.
  private var counts = [0]
  /// Lanes that have waited for another since all were joined.
  private var begun: Set<Int> = [0]
  private var known = [[0]]
  private var knownAt: [[Int]] = []
  /// The first thing queued that streams do not allow.
  private var fault: String?

  init(_ choice: LaneChoice) {
    self.choice = choice
    if case .random(let seed) = choice {
      generator = RandomTensor.Generator(seed: seed)
    } else {
      generator = RandomTensor.Generator(seed: 0)
    }
  }

  var end: Int { done + work.count }

  func add(_ item: QueuedWork) {
    let lane = item.lane
    while counts.count <= lane {
      counts.append(0)
      for index in known.indices { known[index].append(0) }
      known.append([Int](repeating: 0, count: counts.count))
    }
    switch item.action {
    case .wait(let point):
      guard let number = pointNumbers[point] else { return note("lane \(lane) waits for what was never reached") }
      for (other, count) in knownAt[number].enumerated() { known[lane][other] = max(known[lane][other], count) }
      begun.insert(lane)
      count(lane)
      work.append((lane, .wait(number)))
    case .reach(let point):
      requireBegun(lane)
      count(lane)
      pointNumbers[point] = isReached.count
      work.append((lane, .reach(isReached.count)))
      isReached.append(false)
      knownAt.append(known[lane])
    case .run(let body):
      requireBegun(lane)
      count(lane)
      work.append((lane, .run(body)))
    }
  }

  private func count(_ lane: Int) {
    counts[lane] += 1
    known[lane][lane] = counts[lane]
  }

  private func requireBegun(_ lane: Int) {
    if !begun.contains(lane) { note("lane \(lane) begins before it waits for another") }
  }

  private func note(_ text: String) { fault = fault ?? text }

  /// Notes it when lanes go on that the stream itself has not waited for.
  func requireJoined(at place: String) {
    for lane in counts.indices.dropFirst() where known[0][lane] < counts[lane] {
      note("lane \(lane) goes on at \(place)")
    }
    begun = [0]
  }

  func takeFault() -> String? {
    defer { fault = nil }
    return fault
  }

  /// Does what was queued before a position.
  func advance(to end: Int) {
    var lanes: [[Entry]] = []
    while done < end, !work.isEmpty {
      let (lane, entry) = work.removeFirst()
      done += 1
      while lanes.count <= lane { lanes.append([]) }
      lanes[lane].append(entry)
    }
    var next = [Int](repeating: 0, count: lanes.count)
    while true {
      let open = lanes.indices.filter { lane in
        guard next[lane] < lanes[lane].count else { return false }
        if case .wait(let number) = lanes[lane][next[lane]] { return isReached[number] }
        return true
      }
      guard let lane = choose(open) else { return }
      switch lanes[lane][next[lane]] {
      case .run(let body): body()
      case .reach(let number): isReached[number] = true
      case .wait: break
      }
      next[lane] += 1
    }
  }

  private func choose(_ lanes: [Int]) -> Int? {
    switch choice {
    case .first: lanes.first
    case .last: lanes.last
    case .random: lanes.isEmpty ? nil : lanes[Int.random(in: lanes.indices, using: &generator)]
    }
  }
}
