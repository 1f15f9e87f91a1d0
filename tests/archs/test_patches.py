"""Splitting and merging lose nothing and keep every region in its place."""

import pytest
import torch

from glsgn_plugins.archs.patches import merge_patches, split_patches

GRIDS = [(1, 1), (2, 1), (1, 3), (2, 2), (4, 4)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def maps(height=24, width=36, n=2, c=5, memory_format=torch.contiguous_format):
    return torch.randn(n, c, height, width).contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("grid", GRIDS)
def test_merging_is_the_exact_inverse_of_splitting(grid, memory_format):
    x = maps(memory_format=memory_format)
    patches = split_patches(x, grid)
    assert patches.shape == (2 * grid[0] * grid[1], 5, 24 // grid[0], 36 // grid[1])
    assert torch.equal(merge_patches(patches, grid), x)
    assert torch.equal(split_patches(merge_patches(patches, grid), grid), patches)


def test_patches_are_the_regions_row_by_row_image_by_image():
    x = maps()
    patches = split_patches(x, (2, 3)).reshape(2, 2, 3, 5, 12, 12)
    for n in range(2):
        for r in range(2):
            for c in range(3):
                region = x[n, :, 12 * r : 12 * r + 12, 12 * c : 12 * c + 12]
                assert torch.equal(patches[n, r, c], region)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    ("grid", "merged"), [((4, 4), (2, 2)), ((2, 2), (2, 1)), ((2, 1), (1, 1)), ((4, 2), (2, 1))]
)
def test_merged_grids_map_region_to_region(grid, merged, memory_format):
    x = maps(memory_format=memory_format)
    joined = merge_patches(split_patches(x, grid), grid, merged)
    assert torch.equal(joined, split_patches(x, merged))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_memory_format_is_kept(memory_format):
    patches = split_patches(maps(memory_format=memory_format), (2, 2))
    assert patches.is_contiguous(memory_format=memory_format)
    joined = merge_patches(patches, (2, 2), (2, 1))
    assert joined.is_contiguous(memory_format=memory_format)


def test_a_single_patch_and_rows_in_channels_last_are_views():
    x = maps()
    assert split_patches(x, (1, 1)).data_ptr() == x.data_ptr()
    x = maps(memory_format=torch.channels_last)
    assert split_patches(x, (2, 1)).data_ptr() == x.data_ptr()
    assert merge_patches(split_patches(x, (2, 1)), (2, 1)).data_ptr() == x.data_ptr()


def test_gradients_go_back_to_where_they_came_from():
    x = maps(8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: merge_patches(split_patches(t, (2, 2)) ** 2, (2, 2)), x
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="24x36 can't be cut into 5x1"):
        split_patches(maps(), (5, 1))
    with pytest.raises(ValueError, match="can't be joined"):
        merge_patches(split_patches(maps(), (2, 2)), (2, 2), (1, 3))
