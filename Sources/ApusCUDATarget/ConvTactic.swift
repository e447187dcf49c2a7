import ApusCompiler
import ApusCore

/// How a convolution is computed: a text with its parameters.
enum ConvTactic: Hashable {
  /// Without tensor cores: tile of a block, step along the sum, tile of a thread.
  case simt(m: Int, n: Int, k: Int, thread: Int, residentBlocks: Int, split: Int)
  /// Tensor cores of sm_80 and later: tile of a block, step along the sum in bytes, warps.
  case mma(m: Int, n: Int, kBytes: Int, warpsM: Int, warpsN: Int, split: Int)
  /// Tensor cores of sm_90a.
  case wgmma(WarpgroupConvolution)

  var name: String {
    switch self {
    case .simt(let m, let n, _, _, _, let split): "conv simt \(m)x\(n)\(split > 1 ? " split \(split)" : "")"
    case .mma(let m, let n, _, _, _, let split): "conv mma \(m)x\(n)\(split > 1 ? " split \(split)" : "")"
    case .wgmma(let tile): tile.name
    }
  }

  /// The tactic that the problem's sizes suggest.
  static func choose(_ problem: ConvProblem, _ architecture: CUDAArchitecture) -> ConvTactic {
    if architecture.name == "sm_90a", let tile = WarpgroupConvolution.choose(problem) { return .wgmma(tile) }
    return problem.isHalf ? matrixUnits(problem) : scalar(problem)
  }

  /// The ways to compute a problem, the one that ``choose(_:_:)`` takes first.
  static func candidates(_ problem: ConvProblem, _ architecture: CUDAArchitecture) -> [ConvTactic] {
    var tactics = [choose(problem, architecture)]
    if architecture.name == "sm_90a", WarpgroupConvolution.choose(problem) != nil {
      tactics += WarpgroupConvolution.all.filter { problem.depth / 64 >= $0.split }.map { .wgmma($0) }
    }
    if problem.isHalf {
      for (m, n, kBytes, warpsM, warpsN) in [(128, 128, 64, 2, 4), (64, 64, 128, 2, 2), (32, 64, 128, 1, 4)] {
        tactics += splits(problem, m, n).map {
          .mma(m: m, n: n, kBytes: kBytes, warpsM: warpsM, warpsN: warpsN, split: $0)
        }
      }
    } else if problem.dtype == .f32 {
      tactics += splits(problem, 32, 32).map {
        .simt(m: 32, n: 32, k: 16, thread: 4, residentBlocks: 1, split: $0)
      }
      if problem.vector(4).image > 1 {
        tactics += splits(problem, 64, 64).map {
          .simt(m: 64, n: 64, k: 16, thread: 4, residentBlocks: 1, split: $0)
        }
        tactics.append(.simt(m: 128, n: 64, k: 16, thread: 8, residentBlocks: 2, split: 1))
      }
    }
    var names: Set<String> = []
    return tactics.filter { names.insert($0.name).inserted }
  }

  /// Parts of the sum that are worth trying for a tile.
  private static func splits(_ problem: ConvProblem, _ m: Int, _ n: Int) -> [Int] {
    let tiles = problem.tiles(m, n).estimate
    if problem.depth < 512 { return [1] }
    return [1, 2, 4, 8].filter { $0 == 1 || tiles * $0 <= 528 && problem.depth / $0 >= 128 }
  }

  /// Parts of the sum, so that there is work for every multiprocessor.
  private static func split(_ problem: ConvProblem, _ tiles: Int) -> Int {
    problem.depth >= 512 && tiles < 66 ? min(8, max(1, 132 / tiles)) : 1
  }

  private static func scalar(_ problem: ConvProblem) -> ConvTactic {
    let isDouble = problem.dtype == .f64
    let isLarge = !isDouble && problem.vector(4).image > 1 && problem.groupOutputs > 32
    let isHuge = isLarge && problem.tiles(128, 64).estimate >= 256
    if isHuge { return .simt(m: 128, n: 64, k: 16, thread: 8, residentBlocks: 2, split: 1) }
    let (m, n, k) = isLarge ? (64, 64, 16) : (32, 32, isDouble ? 8 : 16)
    return .simt(
      m: m, n: n, k: k, thread: 4, residentBlocks: 1, split: split(problem, problem.tiles(m, n).estimate))
  }

  private static func matrixUnits(_ problem: ConvProblem) -> ConvTactic {
    if problem.tiles(128, 128).estimate >= 132, problem.groupOutputs > 64 {
      return .mma(m: 128, n: 128, kBytes: 64, warpsM: 2, warpsN: 4, split: 1)
    }
    let isSmall = problem.tiles(64, 64).estimate < 66
    let (m, n, warpsM, warpsN) = isSmall ? (32, 64, 1, 4) : (64, 64, 2, 2)
    return .mma(
      m: m, n: n, kBytes: 128, warpsM: warpsM, warpsN: warpsN, split: split(problem, problem.tiles(m, n).estimate))
  }
}
