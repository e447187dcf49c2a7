import ApusCompiler
import ApusCore
import ApusPlan

/// A product of matrices as the matrix-product texts see it.
struct GemmProblem {
  var form: MatmulForm
  var dtype: DType
  /// Whether the right matrix is `[N, K]` in memory.
  var isTransposed: Bool
  /// Whether no kernel writes the right matrix.
  var isConstant: Bool
  /// Neighbouring columns that the epilogue makes one element of.
  var group = 1

  var elementBytes: Int { dtype.byteCount }
  /// The number that texts know the element type by.
  var kind: Int { dtype == .f32 ? 0 : dtype == .f16 ? 1 : dtype == .bf16 ? 2 : 3 }

  /// Elements of 16 bytes where rows and batches begin at multiples of that, else 1.
  private func vector(_ dims: [Dim]) -> Int {
    let elements = 16 / elementBytes
    return dims.allSatisfy { $0.split(by: Dim(elements)).rest == 0 } ? elements : 1
  }
  var vectorA: Int { vector([form.depth, form.aStride]) }
  var vectorB: Int { vector([isTransposed ? form.depth : form.columns, form.bStride]) }
  var isAligned: Bool { vectorA > 1 && vectorB > 1 }
  /// Of the right matrices.
  var rightByteCount: Int { columns * depth * elementBytes * batches }

  /// Neighbouring columns that the epilogue takes at once, at most `limit`.
  func epilogueWidth(_ limit: Int) -> Int {
    var width = limit
    while width > 1, form.columns.split(by: Dim(width)).rest != 0 { width /= 2 }
    return width
  }

  var rows: Int { max(form.rows.estimate, 1) }
  var columns: Int { max(form.columns.estimate, 1) }
  var depth: Int { max(form.depth.estimate, 1) }
  var batches: Int { max(form.batches.estimate, 1) }
}

/// How a product of matrices is computed: a text with its parameters.
enum GemmTactic: Hashable {
  /// Without tensor cores: tile of a block, step along the sum, tile of a thread.
  case simt(m: Int, n: Int, k: Int, threadM: Int, threadN: Int, residentBlocks: Int, split: Int)
  /// Tensor cores of sm_80 and later: tile of a block in elements, step along the sum in bytes, warps, tiles in flight.
  case mma(m: Int, n: Int, kBytes: Int, warpsM: Int, warpsN: Int, stages: Int, residentBlocks: Int, split: Int)
  /// Tensor cores of sm_90a.
  case wgmma(WarpgroupTile)
  /// Few rows, right matrix `[N, K]`: warps, columns of a warp, warps that share a sum, loads in flight.
  case gemv(rows: Int, warps: Int, columns: Int, split: Int, unroll: Int, mma: Bool)
  /// The same through shared memory, filled by the copy engine of sm_90 and later.
  case ring(WeightRing)

  var name: String {
    switch self {
    case .simt(let m, let n, _, _, _, _, let split): "simt \(m)x\(n)\(split > 1 ? " split \(split)" : "")"
    case .mma(let m, let n, _, _, _, _, _, let split): "mma \(m)x\(n)\(split > 1 ? " split \(split)" : "")"
    case .wgmma(let tile): tile.name
    case .gemv(_, let warps, let columns, let split, let unroll, let mma):
      "gemv \(warps).\(columns).\(split).\(unroll)\(mma ? " mma" : "")"
    case .ring(let ring): ring.name
    }
  }
}

/// A configuration of the warpgroup text, with what it was measured to take.
struct WarpgroupTile: Hashable {
  var m: Int
  var n: Int
  var consumers: Int
  var stages: Int
  var isPingPong = false
  var cluster = 1
  var split = 1
  var slab = 64
  /// Processor cycles for each 128 bytes of the sum, and microseconds for all else, on an H200.
  var cycles: Double
  var fixed: Double

  var blockRows: Int { m * (isPingPong ? 1 : consumers) }
  var clusterSize: Int { cluster * split }
  var threads: Int { consumers * 128 + (consumers > 1 ? 128 : 32) }
  var sharedByteCount: Int {
    let out = split > 1 ? blockRows * (n + 8) * 4 : consumers * 4 * slab * 64
    return stages * (blockRows + n) * 128 + out + 256
  }
  var name: String {
    "wgmma \(blockRows)x\(n)\(isPingPong ? " pairs" : "")\(cluster > 1 ? " cluster \(cluster)" : "")"
      + (split > 1 ? " split \(split)" : "")
  }

  static let all: [WarpgroupTile] = {
    var tiles = [
      WarpgroupTile(m: 64, n: 256, consumers: 2, stages: 4, cycles: 1266, fixed: 6.8),
      WarpgroupTile(m: 128, n: 128, consumers: 2, stages: 4, cycles: 1241, fixed: 7.8),
      WarpgroupTile(m: 128, n: 128, consumers: 2, stages: 5, isPingPong: true, cycles: 766, fixed: 6.0),
      WarpgroupTile(m: 64, n: 224, consumers: 2, stages: 4, cycles: 1103, fixed: 7.4),
      WarpgroupTile(m: 64, n: 192, consumers: 3, stages: 4, slab: 32, cycles: 1400, fixed: 7.6),
      WarpgroupTile(m: 64, n: 192, consumers: 2, stages: 4, cycles: 944, fixed: 7.0),
      WarpgroupTile(m: 64, n: 160, consumers: 2, stages: 5, cycles: 841, fixed: 6.4),
      WarpgroupTile(m: 64, n: 128, consumers: 2, stages: 6, cycles: 802, fixed: 5.2),
      WarpgroupTile(m: 64, n: 112, consumers: 2, stages: 6, cycles: 821, fixed: 3.9),
      WarpgroupTile(m: 64, n: 96, consumers: 2, stages: 6, cycles: 665, fixed: 5.3),
      WarpgroupTile(m: 64, n: 64, consumers: 2, stages: 8, cycles: 604, fixed: 3.8),
      WarpgroupTile(m: 64, n: 96, consumers: 1, stages: 6, cycles: 499, fixed: 4.5),
      WarpgroupTile(m: 64, n: 64, consumers: 1, stages: 6, cycles: 327, fixed: 4.7),
      WarpgroupTile(m: 64, n: 48, consumers: 1, stages: 6, cycles: 306, fixed: 4.8),
      WarpgroupTile(m: 64, n: 32, consumers: 1, stages: 6, cycles: 296, fixed: 4.6),
    ]
    for split in [2, 4] {
      tiles.append(
        WarpgroupTile(m: 64, n: 64, consumers: 2, stages: 6, split: split, cycles: 604, fixed: 5.0))
      tiles.append(
        WarpgroupTile(m: 64, n: 64, consumers: 1, stages: 6, split: split, cycles: 327, fixed: 5.4))
    }
    return tiles
  }()

  /// Clusters of a size that an H200 holds at once.
  static func resident(_ clusterSize: Int) -> Int {
    switch clusterSize {
    case 1: 132
    case 2: 66
    case 4: 30
    default: 15
    }
  }

  func units(_ problem: GemmProblem) -> Int {
    let down = (problem.rows + blockRows * cluster - 1) / (blockRows * cluster)
    return down * ((problem.columns + n - 1) / n) * problem.batches
  }

  /// Predicted microseconds.
  func time(_ problem: GemmProblem) -> Double {
    let waves = (units(problem) + Self.resident(clusterSize) - 1) / Self.resident(clusterSize)
    let steps = Double((problem.depth * problem.elementBytes + 127) / 128) / Double(split)
    // Tiles in pairs hide the epilogue of each but the last.
    let rounds = isPingPong ? (waves + 1) / 2 * 2 : waves
    let epilogues = isPingPong ? 0 : Double(waves - 1) * 2
    return Double(rounds) * steps.rounded(.up) * cycles / 1980 + fixed + epilogues
  }
}

extension GemmTactic {
  /// The tactic that the problem's sizes suggest.
  static func choose(_ problem: GemmProblem, _ architecture: CUDAArchitecture) -> GemmTactic {
    let isHalf = problem.dtype == .f16 || problem.dtype == .bf16
    if let rows = problem.form.rows.constantValue, rows <= 8, problem.isTransposed, problem.dtype != .f64 {
      return fewRows(problem, rows, architecture)
    }
    if !isHalf { return scalar(problem) }
    if architecture.name == "sm_90a", problem.isAligned, problem.form.depth.range.lower > 0 {
      let tiles = WarpgroupTile.all.filter { problem.isTransposed || $0.n % 64 == 0 }
      if let best = tiles.min(by: { $0.time(problem) < $1.time(problem) }) { return .wgmma(best) }
    }
    return tensorCores(problem)
  }

  private static func fewRows(_ problem: GemmProblem, _ rows: Int, _ architecture: CUDAArchitecture) -> GemmTactic {
    if rows <= 2, problem.rightByteCount >= 1 << 20, let ring = WeightRing.choose(problem, rows: rows, architecture) {
      return .ring(ring)
    }
    let canMultiply = problem.dtype != .f32 && problem.isAligned
    let isLong = problem.depth >= 4 * problem.columns
    if rows > 1, canMultiply {
      return .gemv(rows: 8, warps: isLong ? 16 : 8, columns: 16, split: isLong ? 16 : 2, unroll: 4, mma: true)
    }
    let width = rows == 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8
    if isLong || problem.depth >= 4096 || problem.group > 1 && !canMultiply {
      return .gemv(rows: width, warps: 4, columns: 2, split: 4, unroll: 2, mma: false)
    }
    if canMultiply, problem.columns >= 65536 {
      return .gemv(rows: 1, warps: 8, columns: 16, split: 2, unroll: 6, mma: true)
    }
    // A block for each 64 columns streams the weights best where there are enough; groups need neighbours in any case.
    if canMultiply, problem.columns >= 8192 || problem.group > 1 {
      return .mma(
        m: 16, n: 64, kBytes: 128, warpsM: 1, warpsN: 4, stages: 4, residentBlocks: 1,
        split: split(problem, tileCount(problem, 16, 64)))
    }
    return .gemv(rows: width, warps: 8, columns: 1, split: 1, unroll: rows == 1 ? 5 : 2, mma: false)
  }

  static func tileCount(_ problem: GemmProblem, _ m: Int, _ n: Int) -> Int {
    ((problem.rows + m - 1) / m) * ((problem.columns + n - 1) / n) * problem.batches
  }

  /// Parts of the sum, so that there is work for every multiprocessor.
  private static func split(_ problem: GemmProblem, _ tiles: Int) -> Int {
    problem.form.depth.isConstant && problem.depth >= 512 && tiles < 66 ? min(8, max(1, 132 / tiles)) : 1
  }

  private static func scalar(_ problem: GemmProblem) -> GemmTactic {
    if problem.dtype == .f64 {
      return .simt(m: 32, n: 32, k: 8, threadM: 4, threadN: 4, residentBlocks: 1, split: 1)
    }
    if problem.isAligned, tileCount(problem, 128, 64) >= 256 {
      return .simt(m: 128, n: 64, k: 16, threadM: 8, threadN: 8, residentBlocks: 3, split: 1)
    }
    if problem.isAligned, problem.rows > 32, problem.columns > 32 {
      let split = split(problem, tileCount(problem, 64, 64))
      return .simt(m: 64, n: 64, k: 16, threadM: 4, threadN: 4, residentBlocks: 1, split: split)
    }
    let split = split(problem, tileCount(problem, 32, 32))
    return .simt(m: 32, n: 32, k: 16, threadM: 4, threadN: 4, residentBlocks: 1, split: split)
  }

  private static func tensorCores(_ problem: GemmProblem) -> GemmTactic {
    if tileCount(problem, 128, 128) >= 132 {
      return .mma(m: 128, n: 128, kBytes: 64, warpsM: 2, warpsN: 2, stages: 4, residentBlocks: 1, split: 1)
    }
    let m = problem.rows <= 16 ? 16 : problem.rows <= 32 ? 32 : 64
    let split = split(problem, tileCount(problem, m, 64))
    return .mma(
      m: m, n: 64, kBytes: 128, warpsM: m == 64 ? 2 : 1, warpsN: m == 64 ? 2 : 4, stages: 4, residentBlocks: 1,
      split: split)
  }
}
