import ApusCompiler
import ApusCore

/// How the text `gemv_ring.cuh` streams the constant right matrix of a product of few rows.
struct WeightRing: Hashable {
  var rows: Int
  /// Columns of a stage.
  var columns: Int
  /// Warps that share a sum.
  var split: Int
  /// Stages of a warp in shared memory, and how many it needs in all.
  var stages: Int
  var needed: Int
  /// Elements of the sum that a warp takes, and bytes of a stage.
  var depth: Int
  var stageByteCount: Int

  var name: String { "gemv ring \(columns).\(split).\(stages)" }
  var columnsOfBlock: Int { columns * Self.warps / split }
  var sharedByteCount: Int { Self.warps * (stages * (stageByteCount + 8) + 8 * columns * rows) }

  static let warps = 8
  /// Multiprocessors of an H200.
  static let blocks = 132
  /// Shared memory that leaves room for a block of the kernel that comes next.
  private static let halfByteCount = 112 << 10

  /// - Returns: nil where the text does not fit.
  init?(_ problem: GemmProblem, rows: Int, columns: Int, split: Int, shared: Int) {
    let vector = 16 / problem.elementBytes
    guard columns >= problem.group, problem.isAligned, problem.isConstant, problem.isTransposed,
      problem.form.depth.isConstant, problem.depth > 0, rows <= 4
    else { return nil }
    let share = ((problem.depth + split - 1) / split + vector - 1) / vector * vector
    // The left matrix is held in registers.
    guard share * rows * problem.elementBytes <= 5120 else { return nil }
    let (rows, warps) = (rows == 3 ? 4 : rows, Self.warps)
    let stage = columns * share * problem.elementBytes
    let units = (problem.columns + columns * warps / split - 1) / (columns * warps / split) * problem.batches
    let needed = (units + Self.blocks - 1) / Self.blocks
    let stages = min(needed, (shared / warps - 8 * columns * rows) / (stage + 8), 16)
    guard stages >= min(needed, 2) else { return nil }
    (self.rows, self.columns, self.split, self.stages, self.needed, self.depth, self.stageByteCount) =
      (rows, columns, split, stages, needed, share, stage)
  }

  private static func isPossible(_ architecture: CUDAArchitecture) -> Bool { architecture.capability >= 90 }

  /// The ring for a product whose weights all fit into shared memory before earlier kernels end, or are so many that it hardly
  /// matters how the stream begins; nil for those between, which loads into registers compute in less time.
  static func choose(_ problem: GemmProblem, rows: Int, _ architecture: CUDAArchitecture) -> WeightRing? {
    guard isPossible(architecture) else { return nil }
    let isLarge = problem.rightByteCount >= 64 << 20
    let shared = min(architecture.sharedByteCount, isLarge ? 200 << 10 : halfByteCount)
    for split in [1, 2, 4, 8] {
      let columns = max(problem.group, split > 1 ? 1 : isLarge ? 4 : 2)
      if let ring = WeightRing(problem, rows: rows, columns: columns, split: split, shared: shared) {
        return isLarge || ring.stages >= ring.needed ? ring : nil
      }
    }
    return nil
  }

  static func all(_ problem: GemmProblem, rows: Int, _ architecture: CUDAArchitecture) -> [WeightRing] {
    guard isPossible(architecture) else { return [] }
    let sizes = [halfByteCount, 200 << 10].filter { $0 <= architecture.sharedByteCount }
    let forms = [(2, 1), (4, 1), (1, 1), (2, 2), (1, 2), (1, 4), (1, 8), (2, 8)]
    return sizes.flatMap { size in
      forms.compactMap { WeightRing(problem, rows: rows, columns: $0.0, split: $0.1, shared: size) }
    }
  }
}
