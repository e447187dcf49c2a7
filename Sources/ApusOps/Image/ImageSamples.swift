import ApusCore
package import ApusGraph

private let ranges = ["N": 1...2, "H": 2...7]

extension Resize {
  package static var samples: [Sample] {
    let height = Dim(Symbol("H"))
    var samples: [Sample] = []
    for mode in Mode.allCases {
      for transformation in CoordinateTransformation.allCases where transformation != .tfCropAndResize {
        var op = Resize(sizes: [2, height * 2, 5], scales: [0, 2, 0], mode: mode)
        op.transformation = transformation
        samples.append(Sample(op, "f32[2, H, 3]", where: ranges))
      }
    }
    for nearest in NearestMode.allCases {
      var op = Resize(sizes: [7, 3], scales: [1.37, 0.6], mode: .nearest)
      op.nearestMode = nearest
      op.transformation = .asymmetric
      samples.append(Sample(op, "f32[5, 5]"))
    }
    var outside = Resize(sizes: [9, 3], scales: [1.8, 0.777], mode: .cubic)
    outside.excludeOutside = true
    samples.append(Sample(outside, "f32[5, 4]"))
    outside.antialias = true
    samples.append(Sample(outside, "f32[5, 4]"))
    samples.append(Sample(Resize(sizes: [7, 7], scales: [0, 0], mode: .linear), "u8[3, 4]", values: [0: 0...200]))
    var crop = Resize(sizes: [4, 5], scales: [0, 0], mode: .linear)
    crop.transformation = .tfCropAndResize
    crop.extrapolationValue = 3
    let part = HostTensor(.f32, [4], doubles: [0.1, -0.2, 0.8, 1.3])
    samples.append(Sample(crop, "f32[6, 6]", "f32[4]", constants: [1: part]))
    return samples
  }
}

extension GridSample {
  package static var samples: [Sample] {
    var samples: [Sample] = []
    for mode in Mode.allCases {
      for padding in Padding.allCases {
        for alignCorners in [false, true] {
          samples.append(
            Sample(
              GridSample(mode: mode, padding: padding, alignCorners: alignCorners), "f32[N, 2, H, 4]",
              "f32[N, 3, 2, 2]",
              where: ranges, values: [1: -1.7...1.7], tolerance: 1e-4))
        }
      }
    }
    samples.append(
      Sample(
        GridSample(mode: .linear, padding: .zeros, alignCorners: false), "f32[1, 2, 3, H, 4]", "f32[1, 2, 3, 2, 3]",
        where: ranges, values: [1: -1.2...1.2], tolerance: 1e-4))
    return samples
  }
}

extension AffineGrid {
  package static var samples: [Sample] {
    [
      Sample(AffineGrid(sizes: [Dim(Symbol("H")), 4], alignCorners: false), "f32[N, 2, 3]", where: ranges),
      Sample(AffineGrid(sizes: [2, Dim(Symbol("H")), 3], alignCorners: true), "f32[N, 3, 4]", where: ranges),
    ]
  }
}

extension RoiAlign {
  package static var samples: [Sample] {
    [Mode.avg, .max].map { mode in
      var op = RoiAlign(height: 2, width: 3)
      op.mode = mode
      op.samplingRatio = mode == .avg ? 2 : 0
      op.halfPixel = mode == .avg
      return Sample(op, "f32[2, N, H, 8]", "f32[3, 4]", "i64[3]", where: ranges, values: [1: 0...7, 2: 0...1])
    }
  }
}

extension MaxRoiPool {
  package static var samples: [Sample] {
    [
      Sample(
        MaxRoiPool(height: 2, width: 2), "f32[1, N, H, 8]", "f32[1, 5]", where: ranges,
        constants: [1: HostTensor(.f32, [1, 5], doubles: [0, 1, 1, 5, 4])])
    ]
  }
}

extension MaxUnpool {
  package static var samples: [Sample] {
    [
      Sample(
        MaxUnpool(sizes: [4, 4]), "f32[1, 1, 2, 2]", "i64[1, 1, 2, 2]",
        constants: [1: HostTensor(.i64, [1, 1, 2, 2], int64s: [5, 3, 8, 15])])
    ]
  }
}

extension Col2Im {
  package static var samples: [Sample] {
    [
      Sample(
        Col2Im(
          image: [5, 5], block: [2, 3], strides: [1, 1], dilations: [1, 1], padsBegin: [0, 0], padsEnd: [0, 0]),
        "f32[N, 12, 12]", where: ranges),
      Sample(
        Col2Im(
          image: [6, 6], block: [2, 2], strides: [2, 2], dilations: [2, 1], padsBegin: [1, 0], padsEnd: [1, 1]),
        "f32[N, 4, 9]", where: ranges),
    ]
  }
}

extension DeformConv {
  package static var samples: [Sample] {
    var grouped = DeformConv()
    (grouped.groups, grouped.offsetGroups, grouped.padsBegin, grouped.padsEnd) = (2, 2, [1, 0], [1, 0])
    return [
      Sample(DeformConv(), "f32[N, 2, 4, 5]", "f32[3, 2, 2, 2]", "f32[N, 8, 3, 4]", where: ranges),
      Sample(
        grouped, "f32[N, 4, 4, 4]", "f32[2, 2, 3, 2]", "f32[N, 24, 4, 3]", "f32[N, 12, 4, 3]", where: ranges),
    ]
  }
}
