// What a cell is to the code that all cells share: how many gates, what it keeps, and where its gradients stand.
#ifndef CAROUSEL_KERNELS_CELL_H
#define CAROUSEL_KERNELS_CELL_H

namespace {

// Blocks [first, first + count) of a row of da that belong to the rows of the gates `gate[0..count)` of a weight matrix.
struct Blocks {
  int first, count;
  int gate[4];
};

struct Traits {
  int gates, phases;         // phases of a step: in two, every unit's first part is known before any unit's second
  int reserve_blocks;        // of H a row, kept for the backward pass besides the cells
  int gradient_blocks;       // of H in a row of da
  bool one_bias;             // b_W and b_R only ever appear as their sum
  bool has_cells;
  bool inference_gates;      // the second phase reads what the first one kept
  bool shows_gate;           // its one gate is its output, and kept only where zoneout changes that
  Blocks input, recurrent;   // of da that go through W, and through R
  Blocks candidate;          // of a second phase, whose product reads r ∘ h
  int groups;                // gates whose sums a layer normalisation takes together
  double scales[4];          // what the weights of each gate are multiplied by, for its activation (math.h)
};

// Whether a training pass leaves gates.
inline bool keeps_gates(const Traits& cell, double zoneout_h) { return !cell.shows_gate || zoneout_h > 0; }

// A layer pays for what it asks: its equations only, those with options, or row by row with normalised products.
enum Mode { plain, optioned, normalized };

// Blocks of H in a row of da of a normalised layer: ds of W x and of R h, dy of both, which may be one, and
// dy and dy ∘ ŝ of the cell.
struct NormBlocks {
  int d_x, d_h, dy_x, dy_h, cell, gain_cell, count;
};
constexpr NormBlocks norm_blocks(int G, bool has_cells, bool one_dy) {
  const int end = (one_dy ? 3 : 4) * G;
  return {0, G, 2 * G, (one_dy ? 2 : 3) * G, end, end + 1, end + (has_cells ? 2 : 0)};
}

// Where a row of da holds what: the gradients of the sums that go through W, through R, and of their biases.
struct Places {
  Blocks input, recurrent, candidate, bias_W, bias_R;
  int products;         // blocks that take part in products
  int blocks;           // in all
  bool candidate_bias;  // b_R of the candidate is not among bias_R
};

constexpr Places places_of(const Traits& cell, Mode mode) {
  if (mode != normalized)
    return {cell.input, cell.recurrent, cell.candidate, cell.input, cell.recurrent, cell.gradient_blocks,
            cell.gradient_blocks, cell.phases == 2};
  const int G = cell.gates;
  const NormBlocks at = norm_blocks(G, cell.has_cells, cell.one_bias);
  return {{at.d_x, G, {0, 1, 2, 3}},  {at.d_h, cell.phases == 2 ? 2 : G, {0, 1, 2, 3}},
          {at.d_h + 2, 1, {2, 0, 0, 0}}, {at.dy_x, G, {0, 1, 2, 3}},
          {at.dy_h, G, {0, 1, 2, 3}}, 2 * G,
          at.count,                   false};
}

}  // namespace
#endif
