import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A convolution of 3 or 5 pixels along lines by the text `winograd_line.h`, with results in tiles of 4.
struct WinogradLine {
  static let tile = 4
  let outputs: Int
  let block: GemmBlock
  let channels: Int
  let taps: Int
  /// Lines, pixels of each, pixels of each result.
  let lines: Dim
  let length: Dim
  let outLength: Dim
  let padding: Int

  private var points: Int { taps + Self.tile - 1 }
  /// Tiles of an image, and images to reckon with.
  private let tilesOfImage: Dim
  private let images: Int

  /// nil where the text does not fit, or transforms are not asked for.
  init?(_ form: WindowForm, outputs: Int, groups: Int, _ block: GemmBlock) {
    guard groups == 1, form.strides == (1, 1), form.dilations == (1, 1), form.channels % block.lanes == 0,
      form.channels >= 16, outputs >= 8, Winograd.knob.level >= Self.tile
    else { return nil }
    self.outputs = outputs
    self.block = block
    channels = form.channels
    if form.kernel.0 == 1, form.padsBegin.0 == 0, form.outHeight == form.height {
      (taps, padding) = (form.kernel.1, form.padsBegin.1)
      (lines, length, outLength) = (form.batch * form.height, form.width, form.outWidth)
    } else if form.kernel.1 == 1, form.padsBegin.1 == 0, form.width == 1, form.outWidth == 1 {
      (taps, padding) = (form.kernel.0, form.padsBegin.0)
      (lines, length, outLength) = (form.batch, form.height, form.outHeight)
    } else {
      return nil
    }
    guard taps == 3 || taps == 5 else { return nil }
    let linesOfImage = form.kernel.0 == 1 ? form.height : 1
    tilesOfImage = linesOfImage * outLength.ceilDivided(by: Dim(Self.tile))
    images = form.images
  }

  /// What it does, in blocks of a grain.
  func work(_ grain: Grain) -> KernelWork {
    tiles.work(grain, results: Double(images * tilesOfImage.estimate * Self.tile))
  }

  private var tiles: TransformedTiles {
    TransformedTiles(
      block: block, channels: channels, outputs: outputs, points: points,
      tiles: lines * outLength.ceilDivided(by: Dim(Self.tile)), tilesOfImage: tilesOfImage, images: images,
      chunk: chunk)
  }

  var name: String { "winograd line \(Self.tile)" }

  /// Most tiles that are worked on together, as `winograd_line.h` has it.
  private var chunk: Int {
    min(max(400_000 / (points * channels * 4) / block.rows * block.rows, block.rows), 8 * block.rows)
  }

  func emit(_ region: AnchorRegion, _ weights: HostTensor, _ grain: Grain, into builder: inout StepBuilder) {
    let graph = region.graph
    let layout = PackedLayout(
      name: "\(name), \(taps) taps, panels of \(block.columns)", pack: pack, index: { coordinates, _ in coordinates[0] }
    )
    let zeros = builder.addConstant(HostTensor(.f32, [channels]), name: "zeros")
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.conv, KernelText.winogradLine],
      macros: block.macros() + ["LINE_TAPS \(taps)"],
      buffers: [
        builder.slot(region.node.inputs[0]),
        builder.addPacked(weights, layout, name: graph[region.node.inputs[1]].name), zeros,
      ],
      parameters: [lines, length, outLength],
      call: """
          const apus_conv_args g = {.x = buffers[0], .w = buffers[1], .zero = buffers[2], .ctx = CTX, .N = P(0), .H = 1,
            .W = P(1), .C = \(channels), .OH = 1, .OW = P(2), .O = \(outputs), .KH = 1, .KW = \(taps), .SH = 1, .SW = 1,
            .DH = 1, .DW = 1, .PL = \(padding), .groups = 1};
          KERNEL_NAME_winograd_line(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: lines * outLength, columns: Dim(outputs))
    tiles.emit(call, region, grain, tactic: name, into: &builder)
  }

  /// Points of interpolation with the factors of their rows; the last row is the point at infinity.
  private var rows: [(point: Double, factor: Double)] {
    if taps == 3 { return [(0, 0.25), (1, -1.0 / 6), (-1, -1.0 / 6), (2, 1.0 / 24), (-2, 1.0 / 24)] }
    return [
      (0, 1), (1, -2.0 / 9), (-1, -2.0 / 9), (2, 1.0 / 90), (-2, 1.0 / 90), (0.5, 32.0 / 45), (-0.5, 32.0 / 45),
    ]
  }

  private func pack(_ weights: HostTensor) -> HostTensor {
    let (rows, points, taps) = (rows, points, taps)
    return tiles.pack(weights, taps: taps) { weight, put in
      for (point, row) in rows.enumerated() {
        put(point, (0..<taps).reversed().reduce(0.0) { $0 * row.point + row.factor * weight($1) })
      }
      put(points - 1, weight(taps - 1))
    }
  }
}
