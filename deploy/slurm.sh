#!/usr/bin/env bash
# Slurm: sbatch --nodes=3 deploy/slurm.sh MODEL PROMPT
# The first node is the attention side, the others are FFN workers. MODEL and the folder of this job are on a shared file system.
# TANDEM_CONFIG=plan.json: a disaggregated plan from 'tandem plan MODEL ... --json', for both sides.
#SBATCH --job-name=tandem
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -eu
model=$1 prompt=$2 port=${TANDEM_PORT:-7400}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
[ "${#nodes[@]}" -ge 2 ] || { echo "expected at least 2 nodes, found ${#nodes[@]}" >&2; exit 1; }
secret=$PWD/tandem-$SLURM_JOB_ID.key
(umask 077; head -c 32 /dev/urandom | base64 > "$secret")
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -f "$secret"' EXIT
config=(${TANDEM_CONFIG:+--config "$TANDEM_CONFIG"})
workers=
for node in "${nodes[@]:1}"; do
  address=$(srun --nodes=1 --ntasks=1 --nodelist="$node" hostname -I | awk '{print $1}'):$port
  srun --nodes=1 --ntasks=1 --nodelist="$node" tandem worker "$model" --listen "$address" --secret-file "$secret" "${config[@]}" &
  workers=${workers:+$workers,}$address
done
srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" tandem run "$model" --ffn "$workers" --secret-file "$secret" --wait-for-workers 300000 "${config[@]}" -p "$prompt"
