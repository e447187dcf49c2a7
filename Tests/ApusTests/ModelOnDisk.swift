import Foundation
import TestSupport

/// A model written to a temporary file.
struct ModelOnDisk {
  let url: URL

  init(_ model: Proto) throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).onnx")
    try Data(model.bytes).write(to: url)
  }

  func remove() { try? FileManager.default.removeItem(at: url) }
}
