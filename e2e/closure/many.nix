# COUNT small store paths, each of which refers to two before it, and one that refers to all: their root. Texts alone, so nothing is
# built:  nix-instantiate --eval --read-write-mode many.nix --arg count 3000
{ count }:
let
  path = before: number:
    let at = index: if number == 0 then "" else builtins.elemAt before index;
    in builtins.toFile "many-${toString number}" ''
      path ${toString number} of many
      ${at (number / 2)}
      ${at (number / 3)}
    '';
  paths = builtins.foldl' (before: number: before ++ [ (path before number) ]) [ ] (builtins.genList (number: number) count);
in builtins.toFile "many" (builtins.concatStringsSep "\n" paths)
