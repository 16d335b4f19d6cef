#!/usr/bin/env bash
# What a GPU is for, in one go, where Keras runs on JAX and TensorFlow is not installed: throughput beside torchvision's on the same
# card, then full-size trainings. Usage: benchmarks/gpu.sh DATA OUT [throughput|camvid|cells|people ...]
#
# DATA: folder with camvid, bccd, dsb2018 and pennfudan. OUT: folder for tables, logs and checkpoints; what is there is gone on with.
# Needs keras, jax with CUDA, torch, torchvision, pycocotools, and this package. BUDGET: seconds for each training (default 480).
set -uo pipefail
data=$1 out=$2
shift 2
parts=${*:-throughput camvid cells people}
export KERAS_BACKEND=jax XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$out"

throughput() { # our training step and torchvision's, seeded weights, 512 and 800 px, batch 8, bfloat16
  for name in retinanet_resnet50_fpn maskrcnn_resnet50_fpn; do
    python -c "
import sys, torch
from torchvision.models import detection
torch.manual_seed(0)
torch.save(getattr(detection, sys.argv[1])(weights=None, weights_backbone=None).state_dict(), sys.argv[2])" "$name" "$out/$name.pth"
    for size in 512 800; do
      python -m tfzoo.benchmarks.detector_speed "$name" "$out/$name.pth" --size "$size" --batch-size 8 --precision mixed_bfloat16 \
        --device cuda --cases "training step" --rounds 10 --torchvision-python "$(command -v python)" \
        >"$out/throughput_${name}_$size.md" 2>"$out/throughput_${name}_$size.log"
    done
  done
}

train() { # NAME MODEL SPEC SPLIT ARGUMENTS...: trains within the budget, then evaluates the best checkpoint
  local name=$1 model=$2 spec=$3 split=$4 resume=()
  shift 4
  [ -e "$out/$name/last.keras" ] && resume=(--resume)
  timeout -s INT "${BUDGET:-480}" python -m tfzoo train "$model" --data "$spec" --output "$out/$name" --precision mixed_bfloat16 \
    --picture-epochs 0 "$@" "${resume[@]}" >>"$out/$name.log" 2>&1
  python -m tfzoo evaluate "$out/$name/best.keras" --data "$spec" --split "$split" --json "$out/$name.json" --overwrite \
    >>"$out/$name.log" 2>&1
}

camvid() { # at the published 360x480: SegNet-Basic 46.3, ENet 51.3, SegNet 55.6
  local colours=(--brightness 0.3 --contrast 0.4 --saturation 0.3 --hue 0.05 --loss cross_entropy+dice --image-size 360x480)
  train camvid_unet unet "masks:$data/camvid" test --epochs 120 --batch-size 8 --crop 0.667 "${colours[@]}" \
    --option width_multiplier=0.5 --option depth=5 --option dropout=0.2
  train camvid_segnet_basic segnet_basic "masks:$data/camvid" test --epochs 200 --batch-size 8 "${colours[@]}"
}

cells() { # boxes and masks at full size
  train bccd_retinanet retinanet_resnet50_fpn "coco:$data/bccd" test --epochs 60 --batch-size 8 --image-size 480x640
  train bccd_ssd300 ssd300_vgg16 "coco:$data/bccd" test --epochs 120 --batch-size 16 --image-size 300x300 --option batch_norm=True
  train dsb2018_maskrcnn maskrcnn_resnet50_fpn "coco:$data/dsb2018" val --epochs 30 --batch-size 4 --image-size 512 \
    --flip horizontal_and_vertical --max-objects 150 --option "anchor_sizes=[8,16,32,64,128]" --option box_detections_per_img=200
}

people() {
  train pennfudan_maskrcnn maskrcnn_resnet50_fpn "coco:$data/pennfudan" val --epochs 60 --batch-size 4 --image-size 512
}

for part in $parts; do "$part"; done
