import ApusCompiler
import ApusCore

extension GemmTactic {
  /// A way to compute a problem, with what the cost model says it takes in microseconds.
  struct Candidate {
    var tactic: GemmTactic
    var microseconds: Double
  }

  /// The ways to compute a problem: the one that ``choose(_:_:)`` takes, then the others by what they should take.
  static func candidates(_ problem: GemmProblem, _ architecture: CUDAArchitecture) -> [Candidate] {
    let chosen = choose(problem, architecture)
    let isHalf = problem.dtype == .f16 || problem.dtype == .bf16
    var others: [GemmTactic] = []
    if let rows = problem.form.rows.constantValue, rows <= 8, problem.isTransposed, problem.dtype != .f64 {
      others += fewRowsTactics(problem, rows) + WeightRing.all(problem, rows: rows, architecture).map { .ring($0) }
    }
    if isHalf {
      if architecture.name == "sm_90a", problem.isAligned, problem.form.depth.range.lower > 0 {
        others += WarpgroupTile.all.filter { problem.isTransposed || $0.n % 64 == 0 }.map { .wgmma($0) }
      }
      others += tensorCoreTactics(problem)
    } else {
      others += scalarTactics(problem)
    }
    var names: Set<String> = [chosen.name]
    let found = others.filter { names.insert($0.name).inserted }
      .map { Candidate(tactic: $0, microseconds: $0.microseconds(problem)) }
    return [Candidate(tactic: chosen, microseconds: chosen.microseconds(problem))]
      + found.enumerated().sorted {
        let (a, b) = (($0.element.microseconds, $0.offset), ($1.element.microseconds, $1.offset))
        return a < b
      }.map(\.element)
  }

  /// Parts of the sum that are worth trying for a number of tiles.
  private static func splits(_ problem: GemmProblem, _ tiles: Int) -> [Int] {
    guard problem.form.depth.isConstant, problem.depth >= 512 else { return [1] }
    return [1, 2, 3, 4, 6, 8].filter { $0 == 1 || tiles * $0 <= 528 && problem.depth / $0 >= 128 }
  }

  private static func fewRowsTactics(_ problem: GemmProblem, _ rows: Int) -> [GemmTactic] {
    let width = rows == 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8
    let plain = [(8, 1, 1, 5), (8, 1, 1, 2), (8, 1, 2, 4), (4, 2, 4, 2), (8, 2, 1, 2), (8, 2, 8, 2), (4, 1, 1, 4)]
    var tactics: [GemmTactic] = plain.filter { $0.1 >= problem.group }.map {
      .gemv(rows: width, warps: $0.0, columns: $0.1, split: $0.2, unroll: $0.3, mma: false)
    }
    if problem.dtype != .f32, problem.isAligned {
      let parts = [(8, 16, 2, 4), (8, 16, 4, 4), (8, 16, 8, 4), (16, 16, 16, 4), (8, 16, 2, 6)]
      tactics += parts.map {
        .gemv(rows: rows == 1 ? 1 : 8, warps: $0.0, columns: $0.1, split: $0.2, unroll: $0.3, mma: true)
      }
    }
    return tactics
  }

  private static func scalarTactics(_ problem: GemmProblem) -> [GemmTactic] {
    if problem.dtype == .f64 { return [] }
    var tactics = splits(problem, tileCount(problem, 32, 32)).map {
      GemmTactic.simt(m: 32, n: 32, k: 16, threadM: 4, threadN: 4, residentBlocks: 1, split: $0)
    }
    if problem.isAligned {
      tactics += splits(problem, tileCount(problem, 64, 64)).map {
        .simt(m: 64, n: 64, k: 16, threadM: 4, threadN: 4, residentBlocks: 1, split: $0)
      }
      tactics += splits(problem, tileCount(problem, 128, 64)).map {
        .simt(m: 128, n: 64, k: 16, threadM: 8, threadN: 8, residentBlocks: 3, split: $0)
      }
    }
    return tactics
  }

  private static func tensorCoreTactics(_ problem: GemmProblem) -> [GemmTactic] {
    let tiles = [
      (128, 128, 64, 2, 2), (128, 64, 128, 2, 2), (64, 64, 128, 2, 2), (32, 64, 128, 1, 4), (16, 64, 128, 1, 4),
    ]
    return tiles.flatMap { m, n, kBytes, warpsM, warpsN in
      splits(problem, tileCount(problem, m, n)).map {
        .mma(
          m: m, n: n, kBytes: kBytes, warpsM: warpsM, warpsN: warpsN, stages: 4, residentBlocks: 1, split: $0)
      }
    }
  }

  /// What the cost model says, for ranking: measured for warpgroups, elsewhere what the arithmetic units and the memory should
  /// take at usual shares of their rates, on 132 multiprocessors.
  func microseconds(_ problem: GemmProblem) -> Double {
    func tiled(_ m: Int, _ n: Int, _ split: Int, _ blocksOfUnit: Int, perCycle: Double) -> Double {
      let units = Self.tileCount(problem, m, n) * split
      let waves = Double((units + 132 * blocksOfUnit - 1) / (132 * blocksOfUnit) * blocksOfUnit)
      let cycles = Double(m * n) * Double(problem.depth) / Double(split) / perCycle
      return waves * cycles / 1700 + 3 + (split > 1 ? 3 : 0)
    }
    switch self {
    case .wgmma(let tile): return tile.time(problem)
    case .simt(let m, let n, _, _, _, let residentBlocks, let split):
      return tiled(m, n, split, residentBlocks, perCycle: problem.dtype == .f64 ? 32 : m >= 128 ? 90 : 60)
    case .mma(let m, let n, _, _, _, _, _, let split):
      return tiled(m, n, split, 1, perCycle: m >= 64 ? 600 : 300)
    case .gemv: return Double(problem.rightByteCount) / 3_000_000 + 2
    case .ring: return Double(problem.rightByteCount) / 4_000_000 + 3
    }
  }
}
