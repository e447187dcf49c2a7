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
        ScatterElements(axis: 1, reduction: .add), "f16[3, 50]", "i64[2, A]", "f16[2, A]",
        where: ["A": 33...90], values: [1: -50...49]),
      Sample(
        ScatterElements(axis: 0), "bool[A, 3]", "i32[70, 2]", "bool[70, 2]", where: ["A": 20...30], values: [1: 0...9]),
      Sample(
        ScatterElements(axis: 0, reduction: .min), "u8[300, 2]", "i64[5000, 2]", "u8[5000, 2]", values: [1: 0...299]),
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
      Sample(
        ScatterND(), "bf16[A, 2, 3]", "i64[40, 1]", "bf16[40, 2, 3]", where: ["A": 20...30], values: [1: -20...19]),
      Sample(
        ScatterND(reduction: .add), "f32[40, 10, N]", "i64[A, 2]", "f32[A, N]", where: ["A": 100...200, "N": 1...3],
        values: [1: 0...9]),
      Sample(
        ScatterND(reduction: .mul), "f64[70000]", "i32[50, 1]", "f64[50]", values: [1: 69_990...69_999, 2: 0.5...1.5]),
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
      Sample(NonZero(count: found), "f16[N, 3, 900]", where: ranges, values: [0: -0.3...0.3]),
    ]
  }
}

extension Compress {
  package static var samples: [Sample] {
    [
      Sample(Compress(axis: 1, count: found), "f32[N, M, 2]", "bool[3]", where: ranges),
      Sample(Compress(axis: nil, count: found), "f32[N, M]", "bool[3]", where: ranges),
      Sample(Compress(axis: 0, count: found), "i16[3000, N]", "bool[2900]", where: ranges),
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
        "f32[1]", where: ranges, values: [0: 0.5...2, 1: 0...1, 2: 1...3, 3: 0.2...0.5, 4: 0...0.5]),
      Sample(
        NonMaxSuppression(centerPointBox: false, count: found), "f32[1, A, 4]", "f32[1, N, A]", "i64[1]", "f32[1]",
        "f32[1]", where: ["A": 500...700, "N": 1...2],
        values: [0: 0...9, 1: 0...1, 2: 5...90, 3: 0.2...0.5, 4: 0...0.5]),
    ]
  }
}
