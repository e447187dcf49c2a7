import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct ImageTests {
  private func resized(_ op: Resize, _ x: HostTensor) throws -> [Double] { try op.reference([x])[0].doubles }

  @Test func resizeRepeatsTheNearestElement() throws {
    var op = Resize(sizes: [4], scales: [2], mode: .nearest)
    #expect(try resized(op, floats([2], [1, 2])) == [1, 1, 2, 2])
    op.transformation = .asymmetric
    op.nearestMode = .ceil
    #expect(try resized(op, floats([2], [1, 2])) == [1, 2, 2, 2])
  }

  @Test func resizeInterpolatesLinearly() throws {
    var op = Resize(sizes: [4], scales: [2], mode: .linear)
    #expect(try resized(op, floats([2], [1, 2])) == [1, 1.25, 1.75, 2])
    op.transformation = .alignCorners
    #expect(isClose(try resized(op, floats([2], [1, 2])), [1, 4.0 / 3, 5.0 / 3, 2]))
  }

  @Test func resizeByCubesReproducesALine() throws {
    var op = Resize(sizes: [8], scales: [0], mode: .cubic)
    op.cubicCoefficient = -0.5
    let result = try resized(op, floats([4], [0, 1, 2, 3]))
    // Away from the ends a = −0.5 is exact for lines.
    #expect(isClose(Array(result[3...4]), [1.25, 1.75]))
  }

  @Test func antialiasAverages() throws {
    var op = Resize(sizes: [2], scales: [0], mode: .linear)
    op.antialias = true
    let result = try resized(op, floats([4], [0, 0, 4, 4]))
    #expect(isClose(result, [0.5, 3.5]))
  }

  @Test func resizedIntegersRoundAndSaturate() throws {
    let op = Resize(sizes: [3], scales: [0], mode: .linear)
    let result = try op.reference([HostTensor(.u8, [2], int64s: [0, 255])])[0]
    #expect(result.int64s == [0, 128, 255])
  }

  @Test func gridSampleOfTheIdentityGridIsTheImage() throws {
    let x = floats([1, 1, 2, 3], [1, 2, 3, 4, 5, 6])
    let theta = floats([1, 2, 3], [1, 0, 0, 0, 1, 0])
    for alignCorners in [false, true] {
      let grid = try AffineGrid(sizes: [2, 3], alignCorners: alignCorners).reference([theta])[0]
      for mode in GridSample.Mode.allCases {
        let op = GridSample(mode: mode, padding: .border, alignCorners: alignCorners)
        #expect(isClose(try op.reference([x, grid])[0].doubles, x.doubles))
      }
    }
  }

  @Test func gridSamplePads() throws {
    let x = floats([1, 1, 1, 2], [1, 3])
    let grid = floats([1, 1, 1, 2], [3, 0])
    func run(_ padding: GridSample.Padding) throws -> [Double] {
      try GridSample(mode: .nearest, padding: padding, alignCorners: false).reference([x, grid])[0].doubles
    }
    #expect(try run(.zeros) == [0])
    #expect(try run(.border) == [3])
    #expect(try run(.reflection) == [1])
  }

  @Test func poolsBoxes() throws {
    let x = floats([1, 1, 4, 4], (0..<16).map(Double.init))
    var align = RoiAlign(height: 1, width: 1)
    align.samplingRatio = 2
    // The mean of a linear image over a box is its value at the centre.
    let mean = try align.reference([x, floats([1, 4], [1, 1, 3, 3]), integers([1], [0])])[0].doubles
    #expect(isClose(mean, [7.5]))
    let largest = try MaxRoiPool(height: 1, width: 2).reference([x, floats([1, 5], [0, 0, 0, 3, 1])])[0].doubles
    #expect(largest == [5, 7])
  }

  @Test func foldingAddsWhatOverlaps() throws {
    let op = Col2Im(image: [3], block: [2], strides: [1], dilations: [1], padsBegin: [0], padsEnd: [0])
    #expect(try op.reference([floats([1, 2, 2], [1, 2, 3, 4])])[0].doubles == [1, 5, 4])
    let unpooled = try MaxUnpool(sizes: [4]).reference([floats([1, 1, 2], [7, 9]), integers([1, 1, 2], [1, 2])])[0]
    #expect(unpooled.doubles == [0, 7, 9, 0])
  }

  @Test func deformedConvolutionWithoutOffsetsIsAConvolution() throws {
    let x = floats([1, 1, 3, 3], (0..<9).map(Double.init))
    let w = floats([1, 1, 2, 2], [1, 2, 3, 4])
    let still = floats([1, 8, 2, 2], [Double](repeating: 0, count: 32))
    #expect(try DeformConv().reference([x, w, still])[0].doubles == [27, 37, 57, 67])
    let half = floats([1, 8, 2, 2], (0..<32).map { $0 / 4 % 2 == 1 ? 0.5 : 0 })
    // Half a step to the right adds half of the kernel's sum, but not beyond the right edge.
    #expect(try DeformConv().reference([x, w, half])[0].doubles[0] == 32)
  }
}
