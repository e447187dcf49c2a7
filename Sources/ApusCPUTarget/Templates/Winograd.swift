import ApusCompiler
package import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A 3x3 convolution by the text `winograd.h`, with results in tiles of `tile` x `tile`.
package struct Winograd {
  let form: WindowForm
  let outputs: Int
  let block: GemmBlock
  let tile: Int

  private var side: Int { tile + 2 }
  private var points: Int { side * side }
  private var channels: Int { form.channels }

  package static let knob = Knob.choice(
    "APUS_WINOGRAD", ["0", "2", "4"], default: "4",
    "largest tiles of 3x3 convolutions by Winograd's method on the CPU; 0 sums directly, with the least rounding")

  /// The tiles that the text computes and that are asked for.
  static func all(_ form: WindowForm, outputs: Int, groups: Int, _ block: GemmBlock) -> [Winograd] {
    guard groups == 1, form.kernel == (3, 3), form.strides == (1, 1), form.dilations == (1, 1),
      form.channels % block.lanes == 0, form.channels >= 16, outputs >= 8
    else { return [] }
    return [2, 4].filter { $0 <= knob.level }.map { Winograd(form: form, outputs: outputs, block: block, tile: $0) }
  }

  /// What it does, in blocks of a grain. Transformed weights are 1.8 or 4 times larger, which few pixels do not pay for.
  func work(_ grain: Grain) -> KernelWork {
    tiles.work(grain, results: Double(form.images * (form.outHeight * form.outWidth).estimate))
  }

  private var tiles: TransformedTiles {
    let ofImage = form.outHeight.ceilDivided(by: Dim(tile)) * form.outWidth.ceilDivided(by: Dim(tile))
    return TransformedTiles(
      block: block, channels: channels, outputs: outputs, points: points, tiles: form.batch * ofImage,
      tilesOfImage: ofImage, images: form.images, chunk: chunk)
  }

  var name: String { "winograd \(tile)x\(tile)" }

  /// Most tiles that are worked on together, as `winograd.h` has it.
  private var chunk: Int {
    let isHeavy = points * channels * outputs * 4 > 8_000_000
    let fitting = max(400_000 / (points * channels * 4) / block.rows * block.rows, block.rows)
    return isHeavy ? 4 * block.rows : min(fitting, 4 * block.rows)
  }

  func emit(_ region: AnchorRegion, _ weights: HostTensor, _ grain: Grain, into builder: inout StepBuilder) {
    let graph = region.graph
    let layout = PackedLayout(
      name: "\(name), panels of \(block.columns)", pack: pack, index: { coordinates, _ in coordinates[0] })
    let zeros = builder.addConstant(HostTensor(.f32, [channels]), name: "zeros")
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.conv, KernelText.winograd], macros: block.macros() + ["WINO \(tile)"],
      buffers: [
        builder.slot(region.node.inputs[0]),
        builder.addPacked(weights, layout, name: graph[region.node.inputs[1]].name), zeros,
      ],
      parameters: form.parameters,
      call: """
          const apus_conv_args g = {.x = buffers[0], .w = buffers[1], .zero = buffers[2], .ctx = CTX, \(form.fields),
            .O = \(outputs), .groups = 1};
          KERNEL_NAME_winograd(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    tiles.emit(call, region, grain, tactic: name, into: &builder)
  }

  /// Rows of the matrix that transforms three weights.
  private var rows: [(Double, Double, Double)] {
    if tile == 2 { return [(1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)] }
    let (a, b, c) = (1.0 / 24, 1.0 / 12, 1.0 / 6)
    return [(0.25, 0, 0), (-c, -c, -c), (-c, c, -c), (a, b, c), (a, -b, c), (0, 0, 1)]
  }

  private func pack(_ weights: HostTensor) -> HostTensor {
    let (rows, side) = (rows, side)
    return tiles.pack(weights, taps: 9) { weight, put in
      for (i, left) in rows.enumerated() {
        let a = left.0 * weight(0) + left.1 * weight(3) + left.2 * weight(6)
        let b = left.0 * weight(1) + left.1 * weight(4) + left.2 * weight(7)
        let c = left.0 * weight(2) + left.1 * weight(5) + left.2 * weight(8)
        for (j, right) in rows.enumerated() { put(i * side + j, right.0 * a + right.1 * b + right.2 * c) }
      }
    }
  }
}
