import pytest

from nasperc.convert.names import adelaidet, caffe2, detectron2, detectron2_detector


@pytest.mark.parametrize(
    ("ours", "in_detectron2", "in_caffe2"),
    [
        ("conv1.weight", "stem.conv1.weight", "conv1_w"),
        ("bn1.weight", "stem.conv1.norm.weight", "res_conv1_bn_s"),
        ("bn1.bias", "stem.conv1.norm.bias", "res_conv1_bn_b"),
        ("layer1.0.conv1.weight", "res2.0.conv1.weight", "res2_0_branch2a_w"),
        ("layer1.0.downsample.0.weight", "res2.0.shortcut.weight", "res2_0_branch1_w"),
        ("layer2.0.downsample.1.bias", "res3.0.shortcut.norm.bias", "res3_0_branch1_bn_b"),
        ("layer3.22.bn2.weight", "res4.22.conv2.norm.weight", "res4_22_branch2b_bn_s"),
        ("layer4.1.conv3.weight", "res5.1.conv3.weight", "res5_1_branch2c_w"),
        ("layer4.1.bn3.running_mean", "res5.1.conv3.norm.running_mean", "res5_1_branch2c_bn_rm"),
        ("layer4.1.bn3.running_var", "res5.1.conv3.norm.running_var", "res5_1_branch2c_bn_riv"),
    ],
)
def test_resnets(ours, in_detectron2, in_caffe2):
    assert detectron2(ours) == in_detectron2
    assert detectron2_detector(ours) == f"backbone.bottom_up.{in_detectron2}"
    assert caffe2(ours) == in_caffe2
    assert adelaidet()(f"backbone.{ours}") == (f"backbone.bottom_up.{in_detectron2}",)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("neck.lateral.0.weight", "backbone.fpn_lateral3.weight"),
        ("neck.output.2.bias", "backbone.fpn_output5.bias"),
        ("neck.top.p6.weight", "backbone.top_block.p6.weight"),
        ("head.towers.cls_tower.9.weight", "proposal_generator.fcos_head.cls_tower.9.weight"),
        ("head.towers.box_tower.10.bias", "proposal_generator.fcos_head.bbox_tower.10.bias"),
        ("head.class_logits.bias", "proposal_generator.fcos_head.cls_logits.bias"),
        ("head.box.weight", "proposal_generator.fcos_head.bbox_pred.weight"),
        ("head.centerness.weight", "proposal_generator.fcos_head.ctrness.weight"),
    ],
)
def test_fcos(ours, theirs):
    assert adelaidet()(ours) == (theirs,)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("backbone.layer2.3.conv2.offset_mask.bias", "backbone.bottom_up.res3.3.conv2_offset.bias"),
        ("head.towers.tower.6.weight", "proposal_generator.fcos_head.share_tower.6.weight"),
        ("top_layer.conv.weight", "top_layer.weight"),
        ("bottom.network.refine.2.1.running_var", "basis_module.refine.2.1.running_var"),
        ("bottom.network.tower.4.0.weight", "basis_module.tower.4.0.weight"),
        ("bottom.network.tower.5.bias", "basis_module.tower.5.bias"),
        ("semantic_head.0.0.weight", "basis_module.seg_head.0.weight"),
        ("semantic_head.0.1.bias", "basis_module.seg_head.1.bias"),
        ("semantic_head.1.0.weight", "basis_module.seg_head.3.weight"),
        ("semantic_head.1.1.running_mean", "basis_module.seg_head.4.running_mean"),
        ("semantic_head.2.bias", "basis_module.seg_head.6.bias"),
    ],
)
def test_blendmask(ours, theirs):
    assert adelaidet()(ours) == (theirs,)


def test_levels_of_a_pyramid_from_p2_to_p6():
    theirs = adelaidet(2, 6)
    assert theirs("neck.lateral.0.weight") == ("backbone.fpn_lateral2.weight",)
    assert theirs("neck.output.3.bias") == ("backbone.fpn_output5.bias",)
    assert len(theirs("head.scales")) == 4


def test_one_scale_a_level():
    assert adelaidet()("head.scales") == tuple(
        f"proposal_generator.fcos_head.scales.{level}.scale" for level in range(5)
    )
