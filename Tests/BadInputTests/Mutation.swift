import ApusGraph
import TestSupport

/// Small damage to a model, chosen by a seeded generator.
struct Mutation {
  private(set) var generator: RandomTensor.Generator

  init(seed: UInt64) { generator = RandomTensor.Generator(seed: seed) }

  private static let numbers: [UInt64] = [
    0, 1, 2, 3, 7, 21, 64, 255, 1 << 20, 1 << 31, 1 << 40, 1 << 62, UInt64(Int64.max), UInt64(bitPattern: -1),
    UInt64(bitPattern: -2), UInt64(bitPattern: -(1 << 40)), UInt64(bitPattern: Int64.min),
  ]

  /// The bytes of a model damaged once to three times, in its fields or in its bytes.
  mutating func apply(to model: Proto) -> [UInt8] {
    if Int.random(in: 0..<4, using: &generator) == 0 { return bytes(model.bytes) }
    var damaged = model
    for _ in 0..<Int.random(in: 1...3, using: &generator) { fields(of: &damaged, texts: texts(of: model)) }
    return damaged.bytes
  }

  private func texts(of message: Proto) -> [[UInt8]] {
    message.fields.flatMap { field -> [[UInt8]] in
      switch field.value {
      case .bytes(let bytes) where bytes.count < 16: [bytes]
      case .message(let message): texts(of: message)
      default: []
      }
    }
  }

  private mutating func fields(of message: inout Proto, texts: [[UInt8]]) {
    guard !message.fields.isEmpty else { return }
    let index = Int.random(in: message.fields.indices, using: &generator)
    if case .message(var inner) = message.fields[index].value, Int.random(in: 0..<8, using: &generator) != 0 {
      fields(of: &inner, texts: texts)
      message.fields[index].value = .message(inner)
      return
    }
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: message.fields.remove(at: index)
    case 1: message.fields.append(message.fields[index])
    case 2: message.fields.swapAt(index, Int.random(in: message.fields.indices, using: &generator))
    case 3: message.fields[index].number = Int.random(in: 1...26, using: &generator)
    default: message.fields[index].value = value(in: message.fields[index].value, texts)
    }
  }

  private mutating func value(in value: Proto.Value, _ texts: [[UInt8]]) -> Proto.Value {
    switch value {
    case .number(let number):
      if Bool.random(using: &generator) { return .number(number &+ UInt64.random(in: 0...3, using: &generator) &- 2) }
      return .number(Self.numbers.randomElement(using: &generator) ?? 0)
    case .float: return .float([0, -1, .nan, .infinity, 1e30, 1e-30].randomElement(using: &generator) ?? 0)
    case .bytes(let content):
      if content.count < 16, let other = texts.randomElement(using: &generator) { return .bytes(other) }
      return .bytes(bytes(content))
    case .message: return .number(Self.numbers.randomElement(using: &generator) ?? 0)
    }
  }

  private mutating func bytes(_ content: [UInt8]) -> [UInt8] {
    guard !content.isEmpty else { return [0] }
    var bytes = content
    let position = Int.random(in: bytes.indices, using: &generator)
    switch Int.random(in: 0..<5, using: &generator) {
    case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 1: bytes[position] = UInt8.random(in: 0...255, using: &generator)
    case 2: bytes.removeSubrange(position...)
    case 3: bytes.removeSubrange(position..<min(position + 4, bytes.count))
    default: for offset in position..<min(position + 8, bytes.count) { bytes[offset] = 0xff }
    }
    return bytes
  }
}
