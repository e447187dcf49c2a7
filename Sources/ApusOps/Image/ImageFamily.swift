import ApusGraph

/// Operations on images and feature maps that sample at computed places.
enum ImageFamily {
  static let operations: [Catalogue.Entry] = [
    (["resize"], Resize.self), (["grid_sample"], GridSample.self), (["affine_grid"], AffineGrid.self),
    (["roi_align"], RoiAlign.self), (["max_roi_pool"], MaxRoiPool.self), (["max_unpool"], MaxUnpool.self),
    (["col2im"], Col2Im.self), (["deform_conv"], DeformConv.self),
    (["image_decode"], ImageDecode.self),
  ]
}
