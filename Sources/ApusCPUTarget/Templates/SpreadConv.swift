import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A convolution with few outputs whose neighbouring pixels share a panel: `pixels` of them in a row are one with so many times
/// the outputs, and a window as wide as theirs together.
struct SpreadConv {
  let form: WindowForm
  let outputs: Int
  let block: GemmBlock
  let pixels: Int

  /// The cheapest there is; nil where a pixel by itself takes no more.
  init?(_ form: WindowForm, outputs: Int, groups: Int, usual: GemmBlock, _ blocks: [GemmBlock]) {
    guard groups == 1, form.dilations.1 == 1, form.kernel.1 > 1,
      let best = blocks.filter({ $0.columns >= 2 * outputs }).min(by: {
        Self.cost(form, outputs, $0) < Self.cost(form, outputs, $1)
      }), form.outWidth.estimate >= best.columns / outputs
    else { return nil }
    let alone = Double(form.kernel.1 * usual.vectors) * (usual.vectors == 1 ? 1.1 : 1)
    guard Self.cost(form, outputs, best) < 0.8 * alone else { return nil }
    self.form = form
    self.outputs = outputs
    block = best
    pixels = best.columns / outputs
  }

  /// Products of registers for each pixel and channel; those with one register of a panel wait for more loads.
  private static func cost(_ form: WindowForm, _ outputs: Int, _ block: GemmBlock) -> Double {
    let pixels = block.columns / outputs
    let width = form.kernel.1 + (pixels - 1) * form.strides.1
    return Double(width * block.vectors) / Double(pixels) * (block.vectors == 1 ? 1.1 : 1)
  }

  var name: String { "conv \(block.rows)x\(block.columns) spread \(pixels)" }
  private var width: Int { form.kernel.1 + (pixels - 1) * form.strides.1 }
  private var groups: Dim { form.outWidth.ceilDivided(by: Dim(pixels)) }

  /// What it does, in blocks of a grain.
  func work(_ grain: Grain) -> KernelWork {
    let across = Double(groups.estimate)
    let depth = Double(form.kernel.0 * width * form.channels)
    var sizes = ProductSizes(
      rows: Double(form.images * form.outHeight.estimate) * across, columns: block.columns, depth: depth)
    // The first and the last window of a row reach over the edge.
    sizes.copiesPerRow = depth * min(1, 2 / across)
    var work = block.work(sizes, grain)
    work.stores *= Double(pixels)
    return work
  }

  func emit(_ region: AnchorRegion, _ weights: HostTensor, _ grain: Grain, into builder: inout StepBuilder) {
    let graph = region.graph
    let depth = form.kernel.0 * width * form.channels
    let layout = PackedLayout(name: "\(name) apart", pack: pack, index: { coordinates, _ in coordinates[0] })
    let zeros = builder.addConstant(HostTensor(.f32, [form.channels]), name: "zeros")
    // `P(4)` is the width in pixels that share a panel, `P(5)` in pixels of the result.
    var widened = form
    widened.kernel.1 = width
    widened.strides.1 *= pixels
    widened.outWidth = groups
    let rows = form.batch * form.outHeight * groups
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.conv], macros: block.macros(),
      buffers: [
        builder.slot(region.node.inputs[0]),
        builder.addPacked(weights, layout, name: graph[region.node.inputs[1]].name), zeros,
      ],
      parameters: widened.parameters + [form.outWidth],
      call: """
          const apus_conv_args g = {.x = buffers[0], .w = buffers[1], .zero = buffers[2], .ctx = CTX, \(widened.fields),
            .O = \(outputs * pixels), .groups = 1, .spread = \(pixels), .wide = P(5)};
          KERNEL_NAME_conv(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    // As conv.h copies rows that touch the padding, and keeps a pointer for each row of the window.
    let copied = depth * 4
    let perRow = copied + form.kernel.0 * 8
    let chunk = min(block.chunk(depth), 64)
    call.emit(
      region,
      blocks: block.blocks(batches: 1, rows: rows, columns: Dim(block.columns), depth: Dim(depth), grain),
      scratchBytes: Dim(chunk * block.rows * perRow + copied), tactic: grain.name(name), into: &builder)
  }

  /// `[O, kh, kw, C]` to `[kh][widened kw][C][columns of the panel]`: a pixel's outputs see its part of the window.
  private func pack(_ weights: HostTensor) -> HostTensor {
    let (channels, columns, outputs, pixels, width) = (form.channels, block.columns, outputs, pixels, width)
    let (height, taps, stride) = (form.kernel.0, form.kernel.1, form.strides.1)
    return weights.withUnsafeBytes { bytes in
      let from = bytes.bindMemory(to: Float.self)
      return HostTensor(.f32, [height * width * channels * columns]) { target in
        let to = target.bindMemory(to: Float.self)
        for row in 0..<height {
          for pixel in 0..<pixels {
            for tap in 0..<taps {
              for channel in 0..<channels {
                let at = ((row * width + tap + pixel * stride) * channels + channel) * columns + pixel * outputs
                for output in 0..<outputs {
                  to[at + output] = from[((output * height + row) * taps + tap) * channels + channel]
                }
              }
            }
          }
        }
      }
    }
  }
}
