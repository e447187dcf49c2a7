import ApusCore
package import ApusGraph

private let found = Dim(Symbol("count"))
private let ranges = ["N": 1...4, "M": 3...7]

extension Gather {
  package static var samples: [Sample] {
    [
      Sample(Gather(axis: 0), "f32[5, N]", "i64[M]", where: ranges, values: [1: -5...4]),
      Sample(Gather(axis: 1), "f16[N, 4, 3]", "i32[2, M]", where: ranges, values: [1: -4...3]),
      Sample(Gather(axis: 2), "i64[2, 3, 4]", "i64[]", values: [1: 0...3]),
    ]
  }
}

extension GatherElements {
  package static var samples: [Sample] {
    [
      Sample(GatherElements(axis: 0), "f32[5, N]", "i64[M, N]", where: ranges, values: [1: -5...4]),
      Sample(GatherElements(axis: 2), "i32[2, N, 6]", "i32[2, N, M]", where: ranges, values: [1: 0...5]),
    ]
  }
}

extension GatherND {
  package static var samples: [Sample] {
    [
      Sample(GatherND(batchDims: 0), "f32[3, 3, N]", "i64[M, 2]", where: ranges, values: [1: -3...2]),
      Sample(GatherND(batchDims: 1), "f32[N, 4, 3]", "i64[N, M, 1]", where: ranges, values: [1: 0...3]),
      Sample(GatherND(batchDims: 0), "u8[4, 3]", "i32[2, 2, 2]", values: [1: 0...2]),
    ]
  }
}

extension ScatterElements {
  package static var samples: [Sample] {
    [
      Sample(ScatterElements(axis: 1), "f32[N, 6]", "i64[N, 2]", "f32[N, 2]", where: ranges, values: [1: -6...5]),
      Sample(
        ScatterElements(axis: 0, reduction: .add), "f32[5, N]", "i64[M, N]", "f32[M, N]", where: ranges,
        values: [1: 0...4]),
      Sample(
        ScatterElements(axis: 0, reduction: .max), "i32[5]", "i32[M]", "i32[M]", where: ranges, values: [1: 0...4]),
    ]
  }
}

extension ScatterND {
  package static var samples: [Sample] {
    [
      Sample(ScatterND(), "f32[5, N]", "i64[1, 1]", "f32[1, N]", where: ranges, values: [1: -5...4]),
      Sample(
        ScatterND(reduction: .mul), "f32[4, 4, N]", "i64[M, 2]", "f32[M, N]", where: ranges, values: [1: 0...3]),
      Sample(ScatterND(reduction: .min), "i64[5]", "i64[M, 1]", "i64[M]", where: ranges, values: [1: 0...4]),
    ]
  }
}

extension TensorScatter {
  package static var samples: [Sample] {
    [
      Sample(
        TensorScatter(axis: 2), "f32[N, 2, 9, 3]", "f32[N, 2, 4, 3]", "i64[N]", where: ranges, values: [2: 0...5]),
      Sample(
        TensorScatter(axis: 1, circular: true), "f32[N, 8]", "f32[N, M]", "i64[N]", where: ranges, values: [2: 0...7]),
    ]
  }
}

extension TopK {
  package static var samples: [Sample] {
    [
      Sample(TopK(axis: 1, k: 3), "f32[N, M]", where: ranges),
      Sample(TopK(axis: 0, k: 2, largest: false), "i64[M, 3]", where: ranges),
      Sample(TopK(axis: 0, k: 2), "f32[100]"),
      Sample(TopK(axis: 1, k: Dim(Symbol("K"))), "f16[3, A, N]", where: ["N": 1...3, "A": 900...1100, "K": 1...40]),
      Sample(TopK(axis: 1, k: 700, largest: false), "bf16[N, 900]", where: ranges),
      Sample(TopK(axis: 0, k: 17), "f32[17000, 2]"),
      Sample(TopK(axis: 0, k: 9, largest: false), "i64[16500]", values: [0: 0...3]),
      Sample(TopK(axis: 1, k: 5000), "i32[2, 9000]", values: [0: -70000...70000]),
      Sample(TopK(axis: 0, k: 4500), "f64[4500, 2]"), Sample(TopK(axis: 0, k: 4800, largest: false), "u8[5000]"),
    ]
  }
}

extension NonZero {
  package static var samples: [Sample] {
    [
      Sample(NonZero(count: found), "i32[N, M]", where: ranges, values: [0: 0...1]),
      Sample(NonZero(count: found), "bool[5]"),
    ]
  }
}

extension Compress {
  package static var samples: [Sample] {
    [
      Sample(Compress(axis: 1, count: found), "f32[N, M, 2]", "bool[3]", where: ranges),
      Sample(Compress(axis: nil, count: found), "f32[N, M]", "bool[3]", where: ranges),
    ]
  }
}

extension BindDims {
  package static var samples: [Sample] {
    [Sample(BindDims(dims: [found]), "i64[1]", values: [0: 0...5])]
  }
}

extension ReverseSequence {
  package static var samples: [Sample] {
    [
      Sample(ReverseSequence(batchAxis: 1, timeAxis: 0), "f32[6, N, 2]", "i64[N]", where: ranges, values: [1: 0...6]),
      Sample(ReverseSequence(batchAxis: 0, timeAxis: 1), "i32[N, 4]", "i64[N]", where: ranges, values: [1: 0...4]),
    ]
  }
}

extension Unique {
  package static var samples: [Sample] {
    [
      Sample(Unique(axis: nil, sorted: true, count: found), "i64[N, M]", where: ranges, values: [0: 0...3]),
      Sample(Unique(axis: 1, sorted: false, count: found), "i32[2, M]", where: ranges, values: [0: 0...1]),
    ]
  }
}

extension NonMaxSuppression {
  package static var samples: [Sample] {
    [
      Sample(
        NonMaxSuppression(centerPointBox: true, count: found), "f32[N, M, 4]", "f32[N, 2, M]", "i64[1]", "f32[1]",
        "f32[1]", where: ranges, values: [0: 0.5...2, 1: 0...1, 2: 1...3, 3: 0.2...0.5, 4: 0...0.5])
    ]
  }
}
