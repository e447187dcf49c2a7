import ApusPlan

/// When a buffer is in use, where steps on several lanes touch it: by lane, how many steps from the first of all on are known to be
/// done when the first of its steps begins, and which are done once the last has ended.
struct LaneSpan: Sendable, Hashable {
  /// Steps that come before all that touch it.
  var begins: [Int]
  /// Of each lane, the number behind the last step that touches it.
  var ends: [Int]

  /// Whether all steps that touch the buffer are done before any that touches the other begins.
  func isBefore(_ other: LaneSpan) -> Bool { zip(ends, other.begins).allSatisfy { $0 <= $1 } }
}

extension LaneSpan {
  /// The spans of the slots in a plan's arena, by slot.
  static func spans(of plan: Plan, _ segments: [Segment]) -> [LaneSpan?] {
    let laneCount = segments.map { $0.order?.laneCount ?? 1 }.max() ?? 1
    var orders: [Int: (order: LaneOrder, first: Int)] = [:]
    for segment in segments {
      guard let order = segment.order else { continue }
      for step in segment.first..<segment.end { orders[step] = (order, segment.first) }
    }
    let touches = plan.stepsBySlot()
    return plan.slots.indices.map { index -> LaneSpan? in
      let slot = plan.slots[index]
      guard slot.storage == .arena else { return nil }
      var span = LaneSpan(
        begins: [Int](repeating: .max, count: laneCount), ends: [Int](repeating: 0, count: laneCount))
      let steps = touches[index] ?? []
      for step in steps {
        let (order, first) = orders[step] ?? (nil, step)
        let position = step - first
        for lane in 0..<laneCount {
          let known = order.map { lane < $0.laneCount ? $0.clocks[position][lane] : 0 } ?? 0
          span.begins[lane] = min(span.begins[lane], first + known)
        }
        let lane = order?.entries[position].lane ?? 0
        span.ends[lane] = max(span.ends[lane], step + 1)
      }
      // A loop around steps, or the end of the run, is on no lane.
      for lane in 0..<laneCount {
        if slot.firstStep < steps.min() ?? .max { span.begins[lane] = min(span.begins[lane], slot.firstStep) }
        if slot.lastStep > steps.max() ?? -1 { span.ends[lane] = max(span.ends[lane], slot.lastStep + 1) }
      }
      return span
    }
  }
}

extension Segment {
  /// Segments with the order of their steps, where some are on other lanes than the first.
  static func ordered(_ segments: [Segment], of plan: Plan) -> [Segment] {
    let steps = plan.allSteps
    return segments.map { segment in
      let own = steps[segment.first..<segment.end]
      if own.allSatisfy({ $0.lane == 0 }) { return segment }
      var segment = segment
      segment.order = LaneOrder(
        lanes: own.map(\.lane), dependences: StepAccess.dependences(own.compactMap { plan.access(of: $0) }))
      return segment
    }
  }
}

extension Plan {
  /// The numbers of steps that devices can record together, and run on several lanes: neighbours whose sizes and addresses are known
  /// before a run. The plan must be valid.
  package var recordableSteps: [Range<Int>] { Program(self).segments.map { $0.first..<$0.end } }

  /// Bytes of the arena for values of the shape symbols, pieces not included; nil where these do not fit. The plan must be valid.
  package func arenaByteCount(symbols: [Int]) -> Int? {
    (try? BoundPlan(piece: Program(self), symbols: symbols, memoryLimit: .max / 4))?.arena.byteCount
  }
}

extension Program {
  /// A slot in the arena as something to be placed.
  func arenaRequest(_ slot: Int, byteCount: Int) -> ArenaRequest {
    let own = plan.slots[slot]
    return ArenaRequest(
      byteCount: byteCount, firstStep: own.firstStep, lastStep: own.lastStep, span: spans.isEmpty ? nil : spans[slot])
  }

  /// Lanes beside the first that segments use, and the points that they need.
  var laneNeed: (lanes: Int, points: Int) {
    var need = (lanes: 0, points: 0)
    for order in segments.compactMap(\.order) {
      need = (max(need.lanes, order.laneCount - 1), max(need.points, order.pointCount))
    }
    return need
  }
}
