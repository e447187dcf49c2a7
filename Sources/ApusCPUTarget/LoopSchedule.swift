/// How generated loops are written: sizes that change what they take, not what they compute.
struct LoopSchedule {
  /// Elements of the innermost variable that a tiled reduction accumulates together.
  var tile = 128
  /// Scalar steps that make a block worth its scheduling.
  var grain = 8192
  /// Elements of a side of the squares in which loops run that read along one variable and write along another.
  var square = 16
  /// Whether such loops go through rows as they are written instead.
  var staysInRows = false
  /// Independent accumulators of a reduction.
  var lanes = 64
  /// Vectors of the innermost loop that are worked on together; nil for what the compiler thinks best.
  var unrolling: Int?

  static let usual = LoopSchedule()

  /// What tuning tries, by name.
  static let all: [(name: String, schedule: LoopSchedule)] = [
    ("loops usual", usual), ("loops fine", LoopSchedule(grain: 2048)), ("loops coarse", LoopSchedule(grain: 65536)),
    ("loops unroll 4", LoopSchedule(unrolling: 4)), ("loops tile 512", LoopSchedule(tile: 512)),
    ("loops square 32", LoopSchedule(square: 32)), ("loops rows", LoopSchedule(staysInRows: true)),
    ("loops lanes 32", LoopSchedule(lanes: 32)), ("loops unroll 2", LoopSchedule(unrolling: 2)),
    ("loops tile 64", LoopSchedule(tile: 64)), ("loops square 8", LoopSchedule(square: 8)),
    ("loops lanes 16", LoopSchedule(lanes: 16)),
  ]

  /// Scalar steps that take long enough for their order to matter.
  static let leastWork = 1 << 17
}
