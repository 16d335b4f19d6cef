#!/usr/bin/env bash
# What a GPU is for, in one go, where Keras runs on JAX and TensorFlow is not installed: trainings, and throughput beside
# torchvision's on the same card. Usage: benchmarks/gpu.sh DATA OUT MINUTES PART[,PART...] ...
#
# DATA: folder with camvid, dsb2018 and pennfudan. OUT: folder for tables, logs and checkpoints; what is there is gone on with.
# MINUTES: of each training, compiling and stops included. PART: throughput, or one of the trainings below. Parts joined by commas
# run at once, which fills the card while one of them compiles or reads pictures; but XLA times kernels while it compiles, and with
# seven trainings at once it took two to three minutes for one step: join two or three. While throughput is timed, trainings are
# stopped.
# Needs keras, jax with CUDA, torch, torchvision, pycocotools, and this package.
set -uo pipefail
data=$1 out=$2 minutes=$3
shift 3
export KERAS_BACKEND=jax XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$out"

# === Throughput ===

go_on() { pkill -CONT -f -- "tfzoo .*$out/"; }
trap go_on EXIT

throughput() { # our training step and torchvision's, seeded weights, 512 and 800 px, batch 8, bfloat16
  local name=maskrcnn_resnet50_fpn
  python3 -c "
import sys, torch
from torchvision.models import detection
torch.manual_seed(0)
torch.save(getattr(detection, sys.argv[1])(weights=None, weights_backbone=None).state_dict(), sys.argv[2])" "$name" "$out/$name.pth"
  for size in 512 800; do
    python3 -m tfzoo.benchmarks.detector_speed "$name" "$out/$name.pth" --size "$size" --batch-size 8 --precision mixed_bfloat16 \
      --device cuda --cases "training step" --rounds 15 --torchvision-python "$(command -v python3)" \
      >"$out/throughput_$size.md" 2>"$out/throughput_$size.log" &
    local contest=$!
    while kill -0 $contest 2>/dev/null && ! grep -q "^round 2 of" "$out/throughput_$size.md"; do sleep 0.1; done # warming up
    pkill -STOP -f -- "tfzoo .*$out/"
    wait $contest
    go_on
  done
}

# === Trainings: MODEL SPEC SPLIT-TO-MEASURE SIZE ARGUMENTS... ===

colours=(--brightness 0.3 --contrast 0.4 --saturation 0.3 --hue 0.05 --learning-rate 2e-3)
camvid=("masks:$data/camvid" test 360x480)
nuclei=(--flip horizontal_and_vertical --max-objects 150 --option "anchor_sizes=[8,16,32,64,128]"
  --option box_detections_per_img=400)

settings() { # prints the arguments of a training, one a line
  local vgg=(--option batch_norm=True)
  case $1 in
    unet) set -- unet "${camvid[@]}" "${colours[@]}" --crop 0.75 --loss cross_entropy+lovasz \
      --option width_multiplier=0.5 --option depth=5 --option dropout=0.2 ;;
    segnet) set -- segnet_vgg16 "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice --option width_multiplier=0.5 \
      --option dropout=0.2 ;;
    segnet_basic) set -- segnet_basic "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice ;;
    enet) set -- enet "${camvid[@]}" "${colours[@]}" --learning-rate 4e-3 --loss cross_entropy+dice ;;
    dilated) set -- dilated_vgg16 "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice "${vgg[@]}" \
      --option width_multiplier=0.25 --option dropout=0.2 ;;
    fcn8s) set -- fcn8s_vgg16 "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice "${vgg[@]}" \
      --option width_multiplier=0.5 --option dropout=0.2 ;;
    deeplab) set -- deeplabv3plus_mobilenetv2 "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice ;;
    lraspp) set -- lraspp_mobilenet_v3_large "${camvid[@]}" "${colours[@]}" --loss cross_entropy+dice ;;
    nuclei) set -- maskrcnn_resnet50_fpn "coco:$data/dsb2018" val 512 "${nuclei[@]}" --val-split none ;;
    people) set -- maskrcnn_resnet50_fpn "coco:$data/pennfudan" val 512 --val-split none ;;
    *) return 1 ;;
  esac
  printf '%s\n' "$@"
}

train() { # NAME: trains, then measures the best checkpoint; without validation that is the last one
  local name=$1 arguments resume=() more=()
  mapfile -t arguments < <(settings "$name")
  local model=${arguments[0]} spec=${arguments[1]} split=${arguments[2]} size=${arguments[3]}
  [ -e "$out/$name/last.keras" ] && resume=(--resume)
  [ "$name" = nuclei ] && more=(--max-detections 400)
  python3 -m tfzoo train "$model" --data "$spec" --output "$out/$name" --precision mixed_bfloat16 --image-size "$size" \
    --minutes "$minutes" --epochs 1000 --picture-epochs 0 "${arguments[@]:4}" "${resume[@]}" >>"$out/$name.log" 2>&1
  python3 -m tfzoo evaluate "$out/$name/best.keras" --data "$spec" --split "$split" --image-size "$size" --overwrite \
    --json "$out/$name.json" "${more[@]}" >>"$out/$name.log" 2>&1
}

run() { # PART
  if [ "$1" = throughput ]; then
    throughput
  elif settings "$1" >/dev/null; then
    train "$1"
  else
    echo "There is no training '$1'." >&2
  fi
}

for group; do
  for part in ${group//,/ }; do run "$part" & done
  wait
done
