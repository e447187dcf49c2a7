import ApusCompiler
import ApusCore
import ApusPlan

/// A convolution of few channels, such as an image's first: a block keeps a patch of the image, from which tensor cores are fed.
struct StemConvolution {
  let problem: ConvProblem
  private let warps: Int
  private let rowsOfWarp: Int
  /// Channels of the result that a block makes.
  private let columns: Int

  /// Nil where the text cannot compute the problem.
  init?(_ problem: ConvProblem) {
    guard problem.dtype == .f16 || problem.dtype == .bf16, problem.channels <= 4, problem.groups == 1,
      problem.rank == 2,
      problem.dilations == [1, 1, 1], problem.kernel[2] <= 8
    else { return nil }
    self.problem = problem
    columns = min((problem.outputs + 15) / 16 * 16, 64)
    // Fewer rows for each warp where there are fewer blocks than multiprocessors.
    let strips = max(problem.images.estimate * problem.output[1].estimate * problem.output[2].estimate, 1) / 16
    (warps, rowsOfWarp) = strips / 8 < 264 ? (8, 1) : (4, 2)
  }

  private var line: Int { problem.kernel[2] <= 4 ? 4 : 8 }
  private var depth: Int { (problem.channels * problem.kernel[1] * line + 15) / 16 * 16 }

  private var sharedByteCount: Int {
    let high = (warps * rowsOfWarp - 1) * problem.strides[1] + problem.kernel[1]
    let wide = (15 * problem.strides[2] + line + 1) / 2 * 2
    let patches = problem.strides[2] % 2 == 1 ? 2 : 1
    let image = (patches * problem.channels * high * wide * 2 + 15) / 16 * 16
    return columns * (depth + 8) * 2 + image + warps * 4096
  }

  /// The weights `[O, kh, kw, C]` as the text reads them.
  private func packed(_ weights: HostTensor) -> HostTensor {
    let rows = (problem.outputs + columns - 1) / columns * columns
    let storage = HostStorage(byteCount: rows * depth * 2)
    let to = storage.base.bindMemory(to: UInt16.self, capacity: rows * depth)
    to.initialize(repeating: 0, count: rows * depth)
    let (height, width, channels) = (problem.kernel[1], problem.kernel[2], problem.channels)
    weights.withUnsafeBytes { bytes in
      let from = bytes.bindMemory(to: UInt16.self)
      for output in 0..<problem.outputs {
        for y in 0..<height {
          for x in 0..<width {
            for channel in 0..<channels {
              to[output * depth + (channel * height + y) * line + x] =
                from[((output * height + y) * width + x) * channels + channel]
            }
          }
        }
      }
    }
    return HostTensor(dtype: weights.dtype, shape: [rows, depth], storage: storage)
  }

  func emit(_ region: AnchorRegion, image: Int, _ weights: HostTensor, into builder: inout StepBuilder) {
    let kind = problem.dtype == .f16 ? 1 : 2
    let high = warps * rowsOfWarp
    let units =
      problem.output[2].ceilDivided(by: 16) * problem.output[1].ceilDivided(by: Dim(high)) * problem.images
      * Dim((problem.outputs + columns - 1) / columns)
    let call = TemplateCall(
      texts: [CUDAText.gemm, CUDAText.conv, CUDAText.convStem],
      macros: [
        ("STEM_X", kind), ("STEM_KIND", kind), ("STEM_CIN", problem.channels), ("STEM_KH", problem.kernel[1]),
        ("STEM_KW", problem.kernel[2]), ("STEM_SH", problem.strides[1]), ("STEM_SW", problem.strides[2]),
        ("STEM_WARPS", warps), ("STEM_MI", rowsOfWarp), ("STEM_COUT", columns), ("STEM_PLANAR", 0), ("GEMM_B_EARLY", 1),
      ].map { ($0.0, String($0.1)) },
      buffers: [image, builder.addConstant(packed(weights), name: "weights")],
      parameters: problem.parameters(split: 1),
      call: "  apus_conv_stem(apus_conv_read(B.b[0], B.b[1], 0, P.p), c, blockIdx.x, gridDim.x, shared);\n",
      batches: 1, rows: problem.places, columns: Dim(problem.outputs), width: problem.epilogueWidth(8),
      blocks: Dim.minimum(units, 264), threads: 32 * warps, sharedByteCount: sharedByteCount)
    call.emit(region, tactic: "conv stem \(high)x16", into: &builder)
  }
}
